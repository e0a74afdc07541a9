"""What the agent adds to a run directory: notes, and the end of what never started."""

from __future__ import annotations

import fcntl
import os
import resource
from pathlib import Path

import pytest

from runner_agent.domain.assignment import Assignment, Command, Step
from runner_agent.domain.exit_report import ExitReport, Outcome, not_started
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.domain.reason import Reason
from runner_agent.execution import journal
from runner_agent.execution.inventory import found_in
from runner_agent.execution.journal import Notes
from runner_agent.execution.run_directory import Standing, StateDirectory, StillLive
from runner_agent.execution.translate import record_of, report_of, shim_reason
from runner_agent.shim import messages as shim

KEY = AttemptKey(run_id=RunId("run"), lease_epoch=1)
RECORD = record_of(KEY, not_started(Reason.NOT_STARTED, "why", stopped_by=Reason.USER_CANCEL))


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory.open(tmp_path / "s")


def accepted(state: StateDirectory) -> Path:
    return state.accept(KEY.run_id, KEY.lease_epoch, {"slots": 3})


def test_notes_come_back(state: StateDirectory) -> None:
    path = accepted(state)
    step = Step(name="build", command=Command(argv=("secret-argument",)))
    given = Assignment(key=KEY, steps=(step,), lost_after_s=9.5, grace_s=2.0, stop_signal="SIGINT", secrets={"a": b"b"})
    notes = journal.notes_on(given, "boot")
    journal.write_notes(path, notes)
    assert journal.read_notes(path) == notes
    assert notes.lost_after_s == 9.5
    assert "secret-argument" not in (path / "agent").read_text()


def test_notes_that_do_not_fit_are_no_notes(state: StateDirectory) -> None:
    """Half of them would be read as none: files to hand in forgotten, a workspace that was to stay removed."""
    path = accepted(state)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            journal.write_notes(path, Notes(required=("artifact",) * 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("text", [None, "", "[]", '{"version": 99}', '{"version": 1, "step_names": 3, "grace_s": "x"}'])
def test_missing_or_strange_notes_are_defaults(state: StateDirectory, text: str | None) -> None:
    path = accepted(state)
    if text is not None:
        (path / "agent").write_text(text)
    assert journal.read_notes(path) == Notes()


def test_what_never_started_can_start_no_more_and_its_record_stays(state: StateDirectory) -> None:
    path = accepted(state)
    assert journal.end_unstarted(path, RECORD) == RECORD
    assert (path / "tombstone").exists()
    other = record_of(KEY, not_started(Reason.NOT_STARTED, "another reason"))
    assert journal.end_unstarted(path, other) == RECORD
    entry = state.settle(KEY.run_id, KEY.lease_epoch)
    assert entry.standing is Standing.EXITED
    assert entry.record == RECORD


def test_a_shim_that_holds_the_directory_is_not_called_dead(state: StateDirectory) -> None:
    path = accepted(state)
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(StillLive):
            journal.end_unstarted(path, RECORD)
        assert not (path / "tombstone").exists()
    finally:
        os.close(lock)


def test_a_directory_that_a_shim_has_used_is_settled_by_its_own_rules(state: StateDirectory) -> None:
    path = accepted(state)
    (path / "identity").write_text("{}")
    with pytest.raises(StillLive):
        journal.end_unstarted(path, RECORD)


def test_what_is_found_on_disk_becomes_held(state: StateDirectory) -> None:
    accepted(state)
    over = state.accept("over", 2, {})
    journal.end_unstarted(over, RECORD)
    broken = state.runs / "broken.1"
    broken.mkdir()
    (broken / "accept").write_text("no")
    stray = state.runs / os.fsdecode(b"\xff.1")
    stray.mkdir()
    (stray / "accept").write_text("no")
    found, warnings = found_in(state.scan(), "boot")
    phases = {item.held.key.run_id: item.held.phase.value for item in found}
    assert phases == {"run": "ACCEPTED", "over": "UNSTARTED", "broken": "QUARANTINED"}
    assert next(item.held.slots for item in found if item.held.key == KEY) == 3
    assert len(warnings) == 1


def test_reports_and_records_say_the_same() -> None:
    report = report_of(RECORD)
    assert (report.outcome.value, report.reason, report.stopped_by) == (
        "NOT_STARTED",
        Reason.NOT_STARTED,
        Reason.USER_CANCEL,
    )
    assert report.tree_empty
    assert report.digest


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_of_a_stop_can_be_given_to_a_shim(reason: Reason) -> None:
    assert shim_reason(reason) in shim.Reason


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize("reason", [Reason.SECRET_UNAVAILABLE, Reason.SPAWN_FAILED])
def test_why_a_preparation_failed_survives_a_restart_of_the_agent(
    state: StateDirectory, reason: Reason, permanent: bool
) -> None:
    path = accepted(state)
    failed = ExitReport(
        outcome=Outcome.START_FAILED, reason=reason, error_message="why", tree_empty=True, permanent=permanent
    )
    journal.end_unstarted(path, record_of(KEY, failed))
    (found,), _ = found_in(StateDirectory.scan(state), "boot")
    assert found.held.exit is not None
    kept = found.held.exit
    assert (kept.outcome, kept.reason, kept.permanent) == (Outcome.START_FAILED, reason, permanent)
