"""What is made on disk for an attempt before its fork, most of it after its Assignment: nothing of it is synced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from runner_agent.domain.assignment import Assignment
from runner_agent.domain.exit_report import ExitReport, Outcome, not_started
from runner_agent.domain.reason import Reason
from runner_agent.execution.journal import Notes, write_notes
from runner_agent.launchers import command
from runner_agent.workspace.workspaces import Workspaces

MUCH_BYTES = 64 << 10


def is_much(assignment: Assignment) -> bool:
    """Whether so much is to be written that it should have a thread; a handful of small names should not."""
    return sum(len(step.command.script) for step in assignment.steps) > MUCH_BYTES


def prepare(
    directory: Path, workspaces: Workspaces, assignment: Assignment, notes: Notes, *, made: bool = False
) -> ExitReport | None:
    """Notes, workspace and script files. None if all is well; else the report, which says whose fault it is.

    `made`: the workspace is there, and empty.
    """
    failure = _refused(assignment)
    if failure is not None:
        # One that was made ahead has seen nothing: it must not be kept as if the run had failed in it.
        workspaces.remove_empty(directory.name)
        return failure
    try:
        write_notes(directory, notes)
        if not made:
            workspaces.make(directory.name)
        workspaces.add_scripts(directory.name, command.scripts(assignment))
    except OSError as error:
        return not_started(Reason.NOT_STARTED, f"the workspace could not be made: {error}")
    return None


def _refused(assignment: Assignment) -> ExitReport | None:
    """What is wrong with it, as far as that can be known before anything is made."""
    try:
        command.check(assignment)
    except command.SecretMissing as error:
        return _start_failed(Reason.SECRET_UNAVAILABLE, str(error))
    except command.Unlaunchable as error:
        return replace(_start_failed(Reason.SPAWN_FAILED, str(error)), permanent=True)
    return None


def _start_failed(reason: Reason, message: str) -> ExitReport:
    return ExitReport(outcome=Outcome.START_FAILED, reason=reason, error_message=message, tree_empty=True)
