"""Cancel, force, timeouts and expiry: what is stored, what is sent, and what is refused."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.attempt import ATTEMPT_HELD, AttemptState
from control_plane.domain.errors import FailedPrecondition
from control_plane.domain.ids import next_epoch
from control_plane.domain.offers import accept, offer, withdraw
from control_plane.domain.reason import Reason
from control_plane.domain.run import RUN_TERMINAL, RunState
from control_plane.domain.session import Offer, Stop, Withdraw
from control_plane.domain.stops import CancelOrder, cancel, expire, force, stop_by_timeout
from tests.fakes.cases import HOLDER, NOW, RUNNER, cancelling, case, run, spec

ORDER = CancelOrder(actor="ann", note="wrong branch")
HELD = sorted(ATTEMPT_HELD)


def test_a_queued_run_is_cancelled_and_never_starts() -> None:
    after = cancel(case(), ORDER, NOW)
    assert (after.run.state, after.run.reason, after.run.cancelled_by) == ("CANCELLED", Reason.USER_CANCEL, "ann")
    assert after.run.kill_confirmed
    assert after.run.settled_at == NOW
    assert after.sends == ()
    assert [event.type for event in after.events] == ["STOP_REQUESTED", "CANCELLED", "SETTLED"]
    assert after.events[0].note == "wrong branch"


def test_an_offered_run_is_cancelled_and_its_offer_withdrawn() -> None:
    after = cancel(case(AttemptState.OFFERED), ORDER, NOW)
    assert (after.live.state, after.run.state) == ("CANCELLED", "CANCELLED")
    assert after.sends == (Withdraw(key=after.live.key),)
    assert after.run.kill_confirmed


@pytest.mark.parametrize("state", [AttemptState.STARTING, AttemptState.RUNNING])
def test_a_held_attempt_is_stopped(state: AttemptState) -> None:
    order = replace(ORDER, signal="SIGINT", grace_s=2.0)
    after = cancel(case(state), order, NOW)
    assert (after.live.state, after.run.state) == ("STOPPING", "CANCELLING")
    assert after.live.stop is not None
    assert (after.live.stop.reason, after.live.stop.requested_by) == (Reason.USER_CANCEL, "ann")
    assert after.sends == (Stop(key=after.live.key, reason=Reason.USER_CANCEL, signal="SIGINT", grace_s=2.0),)
    assert after.run.completed_at is None


def test_signal_and_grace_come_from_the_spec_when_the_caller_says_nothing() -> None:
    after = cancel(case(AttemptState.RUNNING, of=replace(spec(), grace_s=0.0, stop_signal="SIGQUIT")), ORDER, NOW)
    assert after.live.stop is not None
    assert (after.live.stop.signal, after.live.stop.grace_s) == ("SIGQUIT", 0.0)


def test_a_second_cancel_keeps_the_first_requester_and_says_the_stop_again() -> None:
    first = cancel(case(AttemptState.RUNNING), ORDER, NOW)
    stored = replace(first, events=(), sends=())
    second = cancel(stored, CancelOrder(actor="bob", note="me too", grace_s=1.0), NOW)
    assert (second.run, second.attempt, second.events) == (stored.run, stored.attempt, ())
    assert second.sends == first.sends


def test_a_cancel_behind_a_timeout_keeps_the_first_stop_reason() -> None:
    timed_out = stop_by_timeout(case(AttemptState.RUNNING), Reason.DEADLINE_PASSED, NOW)
    assert (timed_out.live.state, timed_out.run.state) == ("STOPPING", "RUNNING")
    after = cancel(timed_out, ORDER, NOW)
    assert after.live.stop is not None
    assert after.live.stop.reason is Reason.DEADLINE_PASSED
    assert (after.run.state, after.run.cancel_reason) == ("CANCELLING", Reason.USER_CANCEL)


@pytest.mark.parametrize("state", sorted(RUN_TERMINAL))
@pytest.mark.parametrize("forced", [False, True])
def test_a_finished_run_is_not_cancelled_again(state: RunState, forced: bool) -> None:
    at = replace(case(AttemptState.SUCCEEDED), run=run(state, lease_epoch=1))
    if state is RunState.CANCELLED:
        assert (force(at, ORDER, 2, NOW) if forced else cancel(at, ORDER, NOW)) == at
        return
    with pytest.raises(FailedPrecondition, match="RUN_FINISHED"):
        force(at, ORDER, 2, NOW) if forced else cancel(at, ORDER, NOW)


@pytest.mark.parametrize("state", HELD)
def test_force_is_terminal_at_once_under_a_new_fence(state: AttemptState) -> None:
    after = force(case(state), ORDER, 2, NOW)
    assert (after.live.state, after.run.state, after.run.lease_epoch) == ("CANCELLED", "CANCELLED", 2)
    assert (after.live.reason, after.run.reason) == (Reason.FORCED, Reason.FORCED)
    assert not after.run.kill_confirmed
    assert after.run.settled_at is None
    assert isinstance(after.sends[0], Stop)


def test_force_escalates_a_cancel_and_keeps_its_requester() -> None:
    at = case(AttemptState.STOPPING)
    after = force(replace(at, run=cancelling(at.run)), CancelOrder(actor="bob"), 2, NOW)
    assert (after.run.state, after.run.cancelled_by) == ("CANCELLED", "ann")
    assert after.events[-1].actor == "bob"


def test_force_of_queued_and_offered_runs() -> None:
    assert force(case(), ORDER, 1, NOW).run.state is RunState.CANCELLED
    offered = force(case(AttemptState.OFFERED), ORDER, 2, NOW)
    assert (offered.live.state, offered.run.state, offered.run.lease_epoch) == ("CANCELLED", "CANCELLED", 2)


@pytest.mark.parametrize("reason", [Reason.QUEUE_TIMEOUT, Reason.DEADLINE_PASSED])
def test_a_queued_run_expires(reason: Reason) -> None:
    after = expire(case(), reason, NOW)
    assert (after.run.state, after.run.reason, after.run.due_at) == ("EXPIRED", reason, None)
    assert after.run.settled_at == NOW


def test_the_queue_timeout_counts_until_the_first_assignment() -> None:
    queue_end, deadline = NOW + timedelta(minutes=1), NOW + timedelta(hours=1)
    queued = replace(case(), run=run(queue_expires_at=queue_end, deadline=deadline))
    offered = offer(queued, RUNNER, 1, 10.0, NOW)
    assert offered.run.due_at == deadline
    returned = withdraw(offered, Reason.OFFER_EXPIRED, "", NOW)
    assert returned.run.due_at == queue_end
    accepted = accept(offered, HOLDER, NOW)
    assert (accepted.run.queue_expires_at, accepted.run.due_at) == (None, deadline)
    assert cancel(accepted, ORDER, NOW).run.due_at is None
    assert stop_by_timeout(accepted, Reason.START_TIMEOUT, NOW).run.due_at is None


def test_an_offer_takes_a_new_fence_and_tells_no_argument() -> None:
    after = offer(case(), RUNNER, 7, 10.0, NOW)
    assert (after.run.lease_epoch, after.live.lease_epoch, after.live.number) == (7, 7, 1)
    assert after.sends == (Offer(key=after.live.key, slots=1, summary="true", deadline_s=10.0),)
    assert after.live.holder is None


def test_a_withdrawn_run_goes_to_the_front() -> None:
    after = withdraw(case(AttemptState.OFFERED), Reason.OFFER_EXPIRED, "no answer", NOW)
    assert (after.run.state, after.run.queue_rank, after.run.rejected_count) == ("QUEUED", 0, 1)
    assert after.run.infra_retries == 0
    deleted = withdraw(replace(case(AttemptState.OFFERED), task_deleted=True), Reason.OFFER_EXPIRED, "", NOW)
    assert (deleted.run.state, deleted.run.reason) == ("CANCELLED", Reason.TASK_DELETED)


def test_fences_grow_and_a_restore_raises_them_above_all_older_ones() -> None:
    assert next_epoch(0, 0) == 1
    assert next_epoch(41, 0) == 42
    assert next_epoch(41, 3) == (3 << 48) + 1
    assert next_epoch((3 << 48) + 9, 3) == (3 << 48) + 10
    assert next_epoch(0, (1 << 15) - 1) < 1 << 63
    with pytest.raises(ValueError, match="generation"):
        next_epoch(0, 1 << 15)
