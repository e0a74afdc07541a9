"""Workspaces that stay: which, until when, also behind a restart; and what a missing file does to the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner_agent.domain.assignment import WorkspaceRemoval
from runner_agent.domain.exit_report import ExitReport, Outcome
from runner_agent.domain.reason import Reason
from runner_agent.execution.afterwards import judged
from runner_agent.execution.journal import Notes, read_notes, write_notes
from runner_agent.workspace import kept
from runner_agent.workspace.workspaces import Workspaces

NOW_NS, SECOND_NS = 1_800_000_000_000_000_000, 1_000_000_000
WELL = ExitReport(outcome=Outcome.ENDED_WELL, reason=Reason.EXIT_ZERO, ended_at_ns=NOW_NS)
BADLY = ExitReport(outcome=Outcome.ENDED_BADLY, reason=Reason.EXIT_NONZERO, ended_at_ns=NOW_NS)
STOPPED = ExitReport(
    outcome=Outcome.ENDED_WELL, reason=Reason.EXIT_ZERO, stopped_by=Reason.USER_CANCEL, ended_at_ns=NOW_NS
)
NEVER_RAN = ExitReport(outcome=Outcome.NOT_STARTED, reason=Reason.NOT_STARTED, ended_at_ns=NOW_NS)
ALWAYS, ON_SUCCESS, NEVER = WorkspaceRemoval.ALWAYS, WorkspaceRemoval.ON_SUCCESS, WorkspaceRemoval.NEVER


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    made = Workspaces(tmp_path)
    made.open()
    return made


@pytest.mark.parametrize(
    ("removal", "report", "stays"),
    [
        *((ALWAYS, report, False) for report in (WELL, BADLY, STOPPED, NEVER_RAN)),
        *((ON_SUCCESS, report, stays) for report, stays in ((WELL, False), (BADLY, True), (STOPPED, True))),
        *((NEVER, report, True) for report in (WELL, BADLY, STOPPED)),
        (ON_SUCCESS, NEVER_RAN, False),
        (NEVER, NEVER_RAN, False),
    ],
)
def test_policy(removal: WorkspaceRemoval, report: ExitReport, stays: bool) -> None:
    told = judged(report, Notes(workspace_removal=removal, workspace_keep_s=60), Path("/w/work"))
    expected = ("/w/work", NOW_NS + 60 * SECOND_NS) if stays else ("", None)
    assert (told.workspace_path, told.workspace_kept_until_ns) == expected


def test_a_required_file_that_is_missing_makes_a_good_end_a_bad_one(workspaces: Workspaces) -> None:
    work = workspaces.create("r.1", {}).work
    notes = Notes(required=("report.xml", "*.log"), workspace_removal=ON_SUCCESS)
    (work / "a.log").write_text("1")
    told = judged(WELL, notes, work)
    assert (told.outcome, told.reason) == (Outcome.ENDED_BADLY, Reason.VALIDATION_FAILED)
    assert told.error_message == "required artifacts are not there: 'report.xml'"
    assert told.workspace_path, "it is no success any more"
    (work / "report.xml").write_text("1")
    assert judged(WELL, notes, work) == WELL
    for report in (BADLY, STOPPED, NEVER_RAN):
        assert judged(report, Notes(required=("gone",)), work) == report


def test_notes_survive_a_restart(tmp_path: Path) -> None:
    notes = Notes(artifacts=True, required=("a", "b/*"), workspace_removal=NEVER, workspace_keep_s=5.5)
    write_notes(tmp_path, notes)
    assert read_notes(tmp_path) == notes


def test_a_workspace_goes_when_its_time_has_come(workspaces: Workspaces) -> None:
    for name in ("a.1", "b.1", "c.1"):
        workspaces.create(name, {})
    kept.leave(workspaces, "a.1", NOW_NS + SECOND_NS)
    kept.leave(workspaces, "b.1", NOW_NS + 9 * SECOND_NS)
    kept.leave(workspaces, "c.1", None)
    kept.leave(workspaces, "gone.1", NOW_NS)
    again = Workspaces(workspaces.root.parent)
    assert set(kept.kept(again, NOW_NS)) == {"a.1", "b.1"}
    assert kept.remove_due(again, NOW_NS) == (NOW_NS + SECOND_NS, ())
    assert kept.remove_due(again, NOW_NS + SECOND_NS) == (NOW_NS + 9 * SECOND_NS, ())
    assert [path.name for path in again.root.iterdir()] == ["b.1"]
    assert kept.remove_due(again, NOW_NS + 9 * SECOND_NS) == (None, ())
    assert not list(again.root.iterdir())


@pytest.mark.parametrize("mark", ["", "{", "[]", '{"until_s": "x"}', "\xff"])
def test_a_mark_that_cannot_be_read_keeps_nothing(workspaces: Workspaces, mark: str) -> None:
    workspaces.create("a.1", {})
    (workspaces.root / "a.1" / kept.MARK).write_text(mark)
    assert kept.remove_due(workspaces, NOW_NS) == (None, ())
    assert not list(workspaces.root.iterdir())


def test_no_mark_keeps_for_ever(workspaces: Workspaces) -> None:
    workspaces.create("a.1", {})
    kept.keep(workspaces, "a.1", NOW_NS + 10**6 * 86_400 * SECOND_NS)
    assert kept.kept(workspaces, NOW_NS) == {"a.1": NOW_NS + kept.LONGEST_S * SECOND_NS}
