"""What is to be said of an attempt's workspace when it is over: what has to be in it, and whether it stays.

Blocks on the disk: use a thread. It says the same whenever it is asked, so that a restart changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from runner_agent.domain.assignment import WorkspaceRemoval
from runner_agent.domain.exit_report import ExitReport, Outcome
from runner_agent.domain.reason import Reason
from runner_agent.execution.inventory import Found
from runner_agent.execution.journal import Notes
from runner_agent.workspace.harvest import missing
from runner_agent.workspace.workspaces import Workspaces

NAMED = 5
SECOND_NS = 1_000_000_000


def asks_the_disk(notes: Notes) -> bool:
    """Whether `judged` may have to look at the workspace; if not, it blocks on nothing."""
    return bool(notes.required) or notes.workspace_removal is not WorkspaceRemoval.ALWAYS


def judged(report: ExitReport, notes: Notes, work: Path) -> ExitReport:
    """The report with what its workspace adds to it."""
    well = report.outcome is Outcome.ENDED_WELL and report.stopped_by is None
    if well and notes.required and (gone := missing(work, notes.required)):
        names = ", ".join(repr(path) for path in gone[:NAMED])
        report = replace(
            report,
            outcome=Outcome.ENDED_BADLY,
            reason=Reason.VALIDATION_FAILED,
            error_message=f"required artifacts are not there: {names}",
        )
        well = False
    if report.outcome is Outcome.NOT_STARTED or not _stays(notes.workspace_removal, well=well):
        return report
    if report.outcome is Outcome.START_FAILED and not work.is_dir():
        return report
    until_ns = (report.ended_at_ns or 0) + int(notes.workspace_keep_s * SECOND_NS)
    return replace(report, workspace_path=str(work), workspace_kept_until_ns=until_ns)


def with_workspace(found: Found, workspaces: Workspaces) -> Found:
    """One that an earlier agent has left, with what its workspace adds to its end."""
    if found.held.exit is None:
        return found
    work = workspaces.place(str(found.held.key)).work
    return replace(found, held=replace(found.held, exit=judged(found.held.exit, found.notes, work)))


def _stays(removal: WorkspaceRemoval, *, well: bool) -> bool:
    return removal is WorkspaceRemoval.NEVER or (removal is WorkspaceRemoval.ON_SUCCESS and not well)
