"""What the end of an attempt means for its run: over, or queued again; budgets, stops, proofs."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain import limits
from control_plane.domain.attempt import AttemptState, StopPhase
from control_plane.domain.case import Case, concluded
from control_plane.domain.ends import exited, lost, start_failed_by_server, started
from control_plane.domain.evidence import late_exit
from control_plane.domain.history import TERMINAL_EVENT_TYPES
from control_plane.domain.machine import IllegalTransition
from control_plane.domain.reason import Reason
from control_plane.domain.run import RUN_TERMINAL, RunState
from control_plane.domain.session import ExitOutcome
from control_plane.domain.spec import OnLost
from tests.fakes.cases import AT, NOW, START, attempt, cancelling, case, exit_record, run, spec

BADLY = exit_record(ExitOutcome.ENDED_BADLY)


def kinds(of: Case) -> list[str]:
    return [str(event.type) for event in of.events]


def test_a_failure_is_retried_until_max_attempts() -> None:
    at = case(AttemptState.RUNNING, of=spec(max_attempts=3))
    once = exited(at, BADLY, AT)
    assert (once.run.state, once.run.tries, once.run.retry_count) == ("QUEUED", 1, 1)
    assert once.run.not_before == NOW + timedelta(seconds=5)
    assert once.run.completed_at is None
    assert kinds(once) == ["WILL_RETRY"]
    third = exited(replace(at, run=replace(at.run, tries=2, retry_count=2)), BADLY, AT)
    assert (third.run.state, third.run.tries) == ("FAILED", 3)
    assert third.run.reason is Reason.EXIT_NONZERO
    assert third.run.error_message == "The program ended with exit code 1."
    assert third.run.exit_code == 1


def test_a_success_is_never_retried() -> None:
    after = exited(case(AttemptState.RUNNING, of=spec(max_attempts=3)), exit_record(), AT)
    assert (after.run.state, after.run.reason, after.run.exit_code) == ("SUCCEEDED", Reason.EXIT_ZERO, 0)
    assert after.run.kill_confirmed
    assert after.run.settled_at is None


def test_only_the_named_ends_are_retried() -> None:
    by_timeout = exit_record(ExitOutcome.ENDED_BADLY, stopped_by=Reason.RUN_TIMEOUT, exit_code=None, signal=15)
    failed_only = exited(case(AttemptState.RUNNING, of=spec(max_attempts=3)), by_timeout, AT)
    assert (failed_only.run.state, failed_only.run.reason) == ("TIMED_OUT", Reason.RUN_TIMEOUT)
    both = spec(max_attempts=3, retry_on=("failed", "timeout"))
    assert exited(case(AttemptState.RUNNING, of=both), by_timeout, AT).run.state is RunState.QUEUED
    timeout_only = spec(max_attempts=3, retry_on=("timeout",))
    assert exited(case(AttemptState.RUNNING, of=timeout_only), BADLY, AT).run.state is RunState.FAILED


def test_a_retry_never_passes_the_deadline() -> None:
    at = case(AttemptState.RUNNING, of=spec(max_attempts=3))
    for seconds, state in ((5, "FAILED"), (6, "QUEUED")):
        near = replace(at, run=replace(at.run, deadline=NOW + timedelta(seconds=seconds)))
        after = exited(near, BADLY, AT)
        assert after.run.state == state
        assert ("deadline" in after.events[-1].note) == (state == "FAILED")


def test_nothing_is_retried_beside_a_tree_that_may_still_live() -> None:
    """Two processes of one run must never overlap, so an end without the kernel's word is the last one."""
    survivors = replace(BADLY, tree_empty=False)
    after = exited(case(AttemptState.RUNNING, of=spec(max_attempts=3)), survivors, AT)
    assert after.run.state is RunState.FAILED
    assert "not proven empty" in after.events[-1].note
    assert not after.run.kill_confirmed


def test_not_started_returns_to_the_front_ten_times() -> None:
    record = exit_record(ExitOutcome.NOT_STARTED)
    at = case(AttemptState.STARTING)
    for before, state in ((0, "QUEUED"), (limits.INFRA_RETRIES - 1, "QUEUED"), (limits.INFRA_RETRIES, "FAILED")):
        after = exited(replace(at, run=replace(at.run, infra_retries=before)), record, AT)
        assert (after.run.state, after.run.infra_retries, after.run.tries) == (state, before + 1, 0)
        assert after.live.kill_confirmed
    returned = exited(at, record, AT)
    assert (returned.run.queue_rank, returned.run.not_before, kinds(returned)) == (0, None, ["RETURNED"])


def test_start_failed_uses_up_a_try_unless_it_cannot_heal() -> None:
    at = case(AttemptState.STARTING, of=spec(max_attempts=3))
    record = exit_record(ExitOutcome.START_FAILED, error_message="no such program: nope")
    heals = exited(at, record, AT)
    assert (heals.run.state, heals.run.tries) == ("QUEUED", 1)
    never = exited(at, replace(record, permanent=True), AT)
    assert (never.run.state, never.run.reason) == ("FAILED", Reason.SPAWN_FAILED)
    assert never.run.error_message == "The program could not be started: no such program: nope."


def test_a_secret_that_has_gone_fails_the_start_for_good() -> None:
    after = start_failed_by_server(case(AttemptState.STARTING, of=spec(max_attempts=9)), "no secret T", AT)
    assert (after.run.state, after.run.reason) == ("FAILED", Reason.SECRET_UNAVAILABLE)
    assert not after.live.exit_stored


@pytest.mark.parametrize(
    ("outcome", "tree_empty", "state"),
    [
        (ExitOutcome.SHIM_DIED, True, "QUEUED"),
        (ExitOutcome.SHIM_DIED, False, "LOST"),
        (ExitOutcome.HOST_REBOOTED, False, "QUEUED"),
    ],
)
@pytest.mark.parametrize("at", [AttemptState.STARTING, AttemptState.RUNNING])
def test_a_lost_attempt_is_retried_only_when_nothing_of_it_can_live(
    at: AttemptState, outcome: ExitOutcome, tree_empty: bool, state: str
) -> None:
    record = exit_record(outcome, tree_empty=tree_empty, exit_code=None)
    after = exited(case(at, of=spec(on_lost=OnLost.RETRY)), record, AT)
    assert (after.live.state, after.run.state, after.run.infra_retries) == ("LOST", state, 1)
    assert exited(case(at), record, AT).run.state is RunState.LOST


def test_losses_are_retried_ten_times() -> None:
    at = case(AttemptState.RUNNING, of=spec(on_lost=OnLost.RETRY))
    for before, state in ((limits.INFRA_RETRIES - 1, "QUEUED"), (limits.INFRA_RETRIES, "LOST")):
        after = lost(replace(at, run=replace(at.run, infra_retries=before)), Reason.RUNNER_LOST, AT, proven=True)
        assert after.run.state == state


@pytest.mark.parametrize("outcome", [ExitOutcome.NOT_STARTED, ExitOutcome.START_FAILED])
def test_a_start_that_is_taken_back_is_a_protocol_error(outcome: ExitOutcome) -> None:
    retried = spec(on_lost=OnLost.RETRY, max_attempts=5)
    after = exited(case(AttemptState.RUNNING, of=retried), exit_record(outcome, tree_empty=False), AT)
    assert (after.live.state, after.live.reason) == ("LOST", Reason.PROTOCOL_ERROR)
    assert after.run.state is RunState.LOST
    assert not after.live.kill_confirmed


@pytest.mark.parametrize(
    ("reason", "attempt_state", "run_state"),
    [
        (Reason.USER_CANCEL, "CANCELLED", "CANCELLED"),
        (Reason.SUPERSEDED, "CANCELLED", "CANCELLED"),
        (Reason.TASK_DELETED, "CANCELLED", "CANCELLED"),
        (Reason.RUN_TIMEOUT, "TIMED_OUT", "TIMED_OUT"),
        (Reason.IDLE_TIMEOUT, "TIMED_OUT", "TIMED_OUT"),
        (Reason.START_TIMEOUT, "TIMED_OUT", "TIMED_OUT"),
        (Reason.DEADLINE_PASSED, "TIMED_OUT", "TIMED_OUT"),
        (Reason.RUNNER_SHUTDOWN, "LOST", "LOST"),
        (Reason.RUNNER_LOST, "LOST", "LOST"),
    ],
)
@pytest.mark.parametrize("word", [None, Reason.RUN_TIMEOUT, Reason.RUNNER_SHUTDOWN])
def test_the_stored_stop_decides_and_not_the_records_word(
    reason: Reason, attempt_state: str, run_state: str, word: Reason | None
) -> None:
    for outcome in (ExitOutcome.ENDED_WELL, ExitOutcome.ENDED_BADLY, ExitOutcome.NOT_STARTED):
        after = exited(case(AttemptState.STOPPING, stopped=reason), exit_record(outcome, stopped_by=word), AT)
        assert (after.live.state, after.run.state) == (attempt_state, run_state)
        assert (after.live.reason, after.run.reason) == (reason, reason)


@pytest.mark.parametrize("at", [AttemptState.STARTING, AttemptState.RUNNING])
@pytest.mark.parametrize(
    ("word", "state"),
    [(Reason.IDLE_TIMEOUT, "TIMED_OUT"), (Reason.RUNNER_SHUTDOWN, "LOST"), (Reason.RUNNER_LOST, "LOST")],
)
def test_without_a_stored_stop_the_records_word_counts(at: AttemptState, word: Reason, state: str) -> None:
    after = exited(case(at), exit_record(ExitOutcome.ENDED_BADLY, stopped_by=word), AT)
    assert (after.live.state, after.run.state, after.run.reason) == (state, state, word)
    assert after.live.stop is not None
    assert after.live.stop.reason is word


def test_a_runner_cannot_claim_a_cancel_that_nobody_ordered() -> None:
    after = exited(case(AttemptState.RUNNING), exit_record(stopped_by=Reason.USER_CANCEL), AT)
    assert after.run.state is RunState.SUCCEEDED


def test_a_stop_by_the_runner_is_retried_by_on_lost() -> None:
    of = spec(on_lost=OnLost.RETRY)
    record = exit_record(ExitOutcome.ENDED_BADLY, stopped_by=Reason.RUNNER_SHUTDOWN)
    assert exited(case(AttemptState.RUNNING, of=of), record, AT).run.state is RunState.QUEUED
    unproven = exited(case(AttemptState.RUNNING, of=of), replace(record, tree_empty=False), AT)
    assert unproven.run.state is RunState.LOST


def test_a_stop_by_timeout_of_a_run_that_was_cancelled_after_it() -> None:
    at = case(AttemptState.STOPPING, stopped=Reason.START_TIMEOUT)
    at = replace(at, run=cancelling(at.run))
    after = exited(at, exit_record(ExitOutcome.ENDED_BADLY), AT)
    assert (after.live.state, after.live.reason) == ("TIMED_OUT", Reason.START_TIMEOUT)
    assert (after.run.state, after.run.reason) == ("CANCELLED", Reason.USER_CANCEL)


def test_zero_after_an_accepted_cancel_is_cancelled_with_its_code() -> None:
    before_signal = exited(case(AttemptState.STOPPING), exit_record(), AT)
    assert (before_signal.run.state, before_signal.run.exit_code) == ("CANCELLED", 0)
    assert "before the signal" in before_signal.events[-1].note
    after_signal = exited(case(AttemptState.STOPPING), exit_record(signalled_at=NOW), AT)
    assert "before the signal" not in after_signal.events[-1].note


@pytest.mark.parametrize("outcome", ExitOutcome)
@pytest.mark.parametrize("of", [spec(max_attempts=9), spec(on_lost=OnLost.RETRY)], ids=["failed", "lost"])
def test_a_run_with_a_cancel_request_is_never_queued_again(outcome: ExitOutcome, of) -> None:  # type: ignore[no-untyped-def]
    after = exited(case(AttemptState.STOPPING, of=of), exit_record(outcome, tree_empty=True), AT)
    assert after.run.state is RunState.CANCELLED
    assert lost(case(AttemptState.STOPPING, of=of), Reason.RUNNER_LOST, AT, proven=True).run.state == "CANCELLED"


@pytest.mark.parametrize("outcome", ExitOutcome)
def test_a_run_whose_task_is_gone_does_not_wait_again(outcome: ExitOutcome) -> None:
    of = spec(max_attempts=9, on_lost=OnLost.RETRY)
    for at in (AttemptState.STARTING, AttemptState.RUNNING):
        gone = replace(case(at, of=of), task_deleted=True)
        after = exited(gone, exit_record(outcome, tree_empty=True), AT)
        assert after.run.state in RUN_TERMINAL
        if outcome is not ExitOutcome.ENDED_WELL:
            assert (after.run.state, after.run.reason) == ("CANCELLED", Reason.TASK_DELETED)


@pytest.mark.parametrize("outcome", ExitOutcome)
@pytest.mark.parametrize("at", [AttemptState.STARTING, AttemptState.RUNNING, AttemptState.STOPPING])
def test_a_terminal_run_has_one_terminal_event_and_a_reason(at: AttemptState, outcome: ExitOutcome) -> None:
    after = exited(case(at), exit_record(outcome), AT)
    ends = [event for event in after.events if event.type in TERMINAL_EVENT_TYPES]
    assert len(ends) == (1 if after.run.state in RUN_TERMINAL else 0)
    assert (after.run.reason is not None) == (after.run.state in RUN_TERMINAL)


def test_kill_confirmed_is_the_and_over_all_assigned_attempts() -> None:
    first = attempt(AttemptState.LOST, lease_epoch=1, kill_confirmed=False)
    second = attempt(AttemptState.RUNNING, lease_epoch=2)
    at = Case(run=run(RunState.RUNNING, lease_epoch=2, infra_retries=1), spec=spec(), attempt=second, others=(first,))
    ended = exited(at, exit_record(), AT)
    assert ended.live.kill_confirmed
    assert not ended.run.kill_confirmed
    late = Case(run=ended.run, spec=spec(), attempt=first, others=(ended.live,))
    proven = late_exit(late, exit_record(ExitOutcome.ENDED_BADLY), NOW)
    assert proven.run.kill_confirmed
    assert proven.run.exit_code == 0


def test_settled_when_the_last_log_is_sealed() -> None:
    ended = exited(case(AttemptState.RUNNING), exit_record(), AT)
    sealed = replace(ended, attempt=replace(ended.live, log_sealed_at=NOW), events=())
    settled = concluded(sealed, NOW)
    assert settled.run.settled_at == NOW
    assert kinds(settled) == ["SETTLED"]
    assert concluded(replace(settled, events=()), NOW + timedelta(hours=1)).run.settled_at == NOW


def test_an_older_open_log_keeps_a_run_from_settling() -> None:
    open_log = attempt(AttemptState.LOST, lease_epoch=1)
    ended = exited(case(AttemptState.RUNNING), exit_record(), AT)
    newest = replace(ended.live, lease_epoch=2, log_sealed_at=NOW)
    assert concluded(replace(ended, attempt=newest, others=(open_log,)), NOW).run.settled_at is None


def test_times_stay_in_the_servers_order() -> None:
    record = exit_record(started_at=START - timedelta(days=1), ended_at=NOW + timedelta(days=1))
    after = exited(case(AttemptState.STARTING), record, AT)
    assert after.live.started_at == START
    assert after.live.ended_at == NOW
    assert after.run.completed_at == NOW


def test_the_result_is_kept_and_a_huge_one_is_not() -> None:
    fits = "x" * limits.RESULT_BYTES
    assert exited(case(AttemptState.RUNNING), exit_record(result_data=fits), AT).run.result_data == fits
    assert exited(case(AttemptState.RUNNING), exit_record(result_data=fits + "x"), AT).run.result_data == ""
    retried = case(AttemptState.RUNNING, of=spec(max_attempts=2))
    assert exited(retried, replace(BADLY, result_data="{}"), AT).run.result_data == ""


def test_the_exit_record_closes_the_stops_phases() -> None:
    record = exit_record(signalled_at=START, killed_at=NOW, survivors_killed=2)
    after = exited(case(AttemptState.STOPPING), record, AT)
    assert after.live.stop is not None
    assert (after.live.stop.phase, after.live.stop.survivors) == (StopPhase.KILLED, 2)
    assert (after.live.stop.signalled_at, after.live.stop.killed_at) == (START, NOW)


def test_a_server_event_without_an_arrow_raises() -> None:
    with pytest.raises(IllegalTransition):
        lost(case(AttemptState.OFFERED), Reason.RUNNER_LOST, AT, proven=True)


def test_started_twice_moves_once() -> None:
    once = started(case(AttemptState.STARTING), 5, NOW, NOW)
    assert kinds(once) == ["STARTED"]
    assert started(replace(once, events=()), 6, NOW, NOW) == replace(once, events=())
