"""The shim's decisions: every event in every stage, and the ways that matter from end to end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner_agent.shim.decisions import decide, next_wake_ns, sleep_s
from runner_agent.shim.messages import Outcome, Phase, Reason, Started, StepKind
from runner_agent.shim.orders import (
    AbandonChild,
    ClearTree,
    Finish,
    ForkChild,
    Output,
    Refuse,
    ReleaseChild,
    SignalTree,
    Tell,
    Verdict,
)
from runner_agent.shim.states import (
    NS,
    Begun,
    ChildForked,
    ExecFailed,
    Executed,
    IdentityStored,
    LeaderExited,
    PipesClosed,
    Renewed,
    Stage,
    State,
    StopRequested,
    Ticked,
    TreeCleared,
    TreeEmpty,
)
from runner_agent.shim.verdict import stop_words
from tests.unit.runner_agent.shim.paths import (
    BEGIN,
    CLEARED,
    EVENTS,
    EXIT_ZERO,
    NOW,
    STATES,
    STOP,
    TO_BARRIER,
    TO_CLEARING,
    TO_RELEASED,
    TO_RUNNING,
    at,
    play,
    start,
    step,
)

# Every pair that does something; every other pair changes neither stage nor world.
MOVES = {
    ("NEW", "Begun"): ("FORKING", "ForkChild"),
    ("NEW", "StopRequested"): ("NEW", "Tell StoreStop"),
    ("FORKING", "ChildForked"): ("BARRIER", "StoreIdentity"),
    ("FORKING", "ForkFailed"): ("FINISHED", "Finish"),
    ("FORKING", "StopRequested"): ("FORKING", "Tell StoreStop"),
    ("BARRIER", "IdentityStored"): ("RELEASED", "ReleaseChild"),
    ("BARRIER", "LeaderExited"): ("CLEARING", "ClearTree"),
    ("BARRIER", "StopRequested"): ("BARRIER", "Tell StoreStop"),
    ("RELEASED", "Executed"): ("RUNNING", "Tell"),
    ("RELEASED", "ExecFailed"): ("CLEARING", "ClearTree"),
    ("RELEASED", "StopRequested"): ("RELEASED", "Tell StoreStop"),
    ("ABANDONED", "LeaderExited"): ("CLEARING", "ClearTree"),
    ("RUNNING", "LeaderExited"): ("DRAINING", ""),
    ("RUNNING", "StopRequested"): ("RUNNING", "SignalTree Tell Tell StoreStop"),
    ("DRAINING", "PipesClosed"): ("CLEARING", "ClearTree"),
    ("DRAINING", "StopRequested"): ("DRAINING", "SignalTree Tell Tell StoreStop"),
    ("CLEARING", "TreeCleared"): ("FORKING", "Tell ForkChild"),
    ("CLEARING", "StopRequested"): ("CLEARING", "Tell StoreStop"),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("stage", STATES)
def test_every_event_in_every_stage(stage: str, event: str) -> None:
    assert STATES[stage].stage == stage
    state, orders = decide(STATES[stage], EVENTS[event], NOW)
    assert (state.stage, " ".join(type(order).__name__ for order in orders)) == MOVES.get((stage, event), (stage, ""))


def _verdict(orders: tuple[Output, ...]) -> Verdict:
    (finish,) = [order for order in orders if isinstance(order, Finish)]
    return finish.verdict


def _kinds(orders: tuple[Output, ...], *kinds: type[Output]) -> list[type[Output]]:
    return [type(order) for order in orders if isinstance(order, kinds)]


@pytest.mark.parametrize(
    ("begun", "code"),
    [
        (Begun(locked=False, tombstone=True, used=True), "LOCKED"),
        (Begun(locked=True, tombstone=True, used=True), "TOMBSTONE"),
        (Begun(locked=True, tombstone=False, used=True), "USED"),
    ],
)
def test_nothing_starts_without_the_lock_or_on_a_tombstone_or_twice(begun: Begun, code: str) -> None:
    state, orders = decide(start(), begun, NOW)
    assert [order.code for order in orders if isinstance(order, Refuse)] == [code]
    assert play(state, BEGIN, ChildForked(pid=1))[1] == ()


def test_two_steps_well_done() -> None:
    state, orders = play(start(), *TO_CLEARING, CLEARED, *TO_CLEARING[1:], CLEARED)
    verdict = _verdict(orders)
    assert [order.step for order in orders if isinstance(order, ForkChild)] == [0, 1]
    assert (verdict.outcome, verdict.reason, verdict.exit_code) == (Outcome.ENDED_WELL, Reason.EXIT_ZERO, 0)
    assert (verdict.tree_empty, verdict.survivors_killed, len(verdict.steps)) == (True, 0, 2)
    assert state.stage is Stage.FINISHED


def test_the_loss_deadline_is_looked_at_last_behind_the_barrier() -> None:
    waiting = play(start(loss_deadline_boottime_ns=at(5).boottime_ns), *TO_BARRIER)[0]
    released, orders = decide(waiting, IdentityStored(), at(4.999))
    assert _kinds(orders, ReleaseChild, AbandonChild) == [ReleaseChild]
    abandoned, orders = decide(waiting, IdentityStored(), at(5))
    assert _kinds(orders, ReleaseChild, AbandonChild) == [AbandonChild]
    verdict = _verdict(play(abandoned, LeaderExited(exit_code=125, signal=None), CLEARED, now=at(5))[1])
    assert (verdict.outcome, verdict.reason, verdict.stopped_by) == (Outcome.NOT_STARTED, Reason.NOT_STARTED, None)
    assert released.stage is Stage.RELEASED


def test_nothing_is_forked_after_the_loss_deadline_not_even_the_next_step() -> None:
    _, orders = decide(start(loss_deadline_boottime_ns=NOW.boottime_ns), BEGIN, NOW)
    assert _kinds(orders, ForkChild) == []
    assert _verdict(orders).outcome is Outcome.NOT_STARTED
    running = play(start(loss_deadline_boottime_ns=at(5).boottime_ns), *TO_CLEARING)[0]
    _, orders = decide(running, CLEARED, at(6))
    assert _kinds(orders, ForkChild) == []
    verdict = _verdict(orders)
    assert (verdict.outcome, verdict.stopped_by) == (Outcome.ENDED_BADLY, Reason.RUNNER_LOST)


def test_a_renewal_moves_the_loss_deadline_and_none_removes_it() -> None:
    running = play(start(loss_deadline_boottime_ns=at(5).boottime_ns), *TO_RUNNING)[0]
    renewed = decide(running, Renewed(loss_deadline_ns=at(50).boottime_ns), at(4))[0]
    assert decide(renewed, Ticked(), at(49))[0].stop is None
    assert decide(renewed, Ticked(), at(50))[0].stop is not None
    assert next_wake_ns(decide(running, Renewed(loss_deadline_ns=None), at(4))[0]) != at(5).boottime_ns


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run_timeout_s": 7.0}, Reason.RUN_TIMEOUT),
        ({"idle_timeout_s": 7.0}, Reason.IDLE_TIMEOUT),
        ({"loss_deadline_boottime_ns": at(7).boottime_ns}, Reason.RUNNER_LOST),
    ],
)
def test_clocks_stop_a_run_when_they_are_due_and_not_before(changes: dict[str, object], reason: Reason) -> None:
    running = play(start(**changes), *TO_RUNNING)[0]
    assert next_wake_ns(running) == at(7).boottime_ns
    assert decide(running, Ticked(), at(6.999))[0].stop is None
    state, orders = decide(running, Ticked(), at(7))
    assert state.stop is not None
    assert state.stop.reason is reason
    assert _kinds(orders, SignalTree) == [SignalTree]
    state, orders = decide(state, Ticked(), at(17))
    assert _kinds(orders, ClearTree) == [ClearTree]


def test_a_steps_own_timeout_counts_from_its_exec() -> None:
    running = play(start(step(), step(timeout_s=3.0)), *TO_CLEARING, CLEARED)[0]
    running = play(running, *TO_RUNNING[1:], now=at(10))[0]
    assert decide(running, Ticked(), at(12.9))[0].stop is None
    assert decide(running, Ticked(), at(13))[0].stop is not None


def test_the_start_timeout_covers_preparation_and_no_more() -> None:
    prepared = start(step(kind=StepKind.SETUP), step(), start_timeout_s=5.0, run_timeout_s=100.0)
    setup = play(prepared, *TO_RUNNING)[0]
    stopped, _ = decide(setup, Ticked(), at(5))
    assert stopped.stop is not None
    assert stopped.stop.reason is Reason.START_TIMEOUT
    main = play(setup, EXIT_ZERO, PipesClosed(), CLEARED, *TO_RUNNING[1:], now=at(4))[0]
    assert next_wake_ns(main) == at(104).boottime_ns
    assert decide(main, Ticked(), at(6))[0].stop is None


def test_the_first_stop_reason_wins_and_only_a_shorter_grace_counts() -> None:
    state, orders = play(start(), *TO_RUNNING, STOP)
    signals = _kinds(orders, SignalTree)
    state, orders = play(state, replace(STOP, reason=Reason.SUPERSEDED, grace_ns=900 * NS))
    assert orders == ()
    state, orders = play(state, replace(STOP, grace_ns=2 * NS))
    assert (orders, signals) == ((), [SignalTree])
    assert next_wake_ns(state) == at(2).boottime_ns
    state, orders = decide(state, Ticked(), at(2))
    assert _kinds(orders, ClearTree) == [ClearTree]
    state, orders = play(state, LeaderExited(exit_code=None, signal=9), TreeCleared(killed=3, empty=True), now=at(2))
    verdict = _verdict(orders)
    assert (verdict.stopped_by, verdict.reason, verdict.signal) == (Reason.USER_CANCEL, Reason.USER_CANCEL, 9)
    assert [mark.phase for mark in verdict.stop_marks] == [Phase.RECEIVED, Phase.SIGNALLED, Phase.KILLED]
    assert (verdict.survivors_killed, verdict.stop_marks[-1].survivors) == (3, 3)


def test_the_loss_deadline_brings_a_long_grace_to_an_end() -> None:
    state = play(start(loss_deadline_boottime_ns=at(5).boottime_ns, grace_s=1.0), *TO_RUNNING)[0]
    state = play(state, replace(STOP, grace_ns=3600 * NS))[0]
    state, _ = decide(state, Ticked(), at(5.5))
    assert (state.stop is not None, next_wake_ns(state)) == (True, at(6).boottime_ns)
    assert _kinds(decide(state, Ticked(), at(6))[1], ClearTree) == [ClearTree]
    assert state.stop is not None
    assert state.stop.reason is Reason.USER_CANCEL


def test_a_stop_before_exec_waits_for_the_child_to_arrive() -> None:
    state, orders = play(start(), *TO_RELEASED, STOP)
    assert _kinds(orders, SignalTree) == []
    _, orders = play(state, Executed())
    assert _kinds(orders, SignalTree) == [SignalTree]


def test_a_stop_at_the_barrier_executes_nothing() -> None:
    state, orders = play(start(), *TO_BARRIER, STOP, IdentityStored())
    assert _kinds(orders, ReleaseChild, AbandonChild, SignalTree) == [AbandonChild]
    verdict = _verdict(play(state, LeaderExited(exit_code=125, signal=None), CLEARED)[1])
    assert (verdict.outcome, verdict.reason) == (Outcome.NOT_STARTED, Reason.USER_CANCEL)
    assert (verdict.stopped_by, verdict.steps) == (Reason.USER_CANCEL, ())


def test_after_a_stop_the_tree_has_its_grace_when_the_leader_is_gone() -> None:
    state, orders = play(start(), *TO_RUNNING, STOP, LeaderExited(exit_code=None, signal=15), PipesClosed(), now=at(1))
    assert _kinds(orders, ClearTree) == []
    assert next_wake_ns(state) is not None
    quiet, orders = decide(state, TreeEmpty(), at(3))
    assert quiet.stage is Stage.FINISHED
    assert _verdict(orders).survivors_killed == 0
    assert _kinds(decide(state, Ticked(), at(11))[1], ClearTree) == [ClearTree]


def test_without_a_stop_the_pipes_are_drained_for_two_seconds_at_most() -> None:
    state, orders = play(start(), *TO_RUNNING, EXIT_ZERO)
    assert orders[-1] != ClearTree()
    assert decide(state, Ticked(), at(1.999))[0].stage is Stage.DRAINING
    assert _kinds(decide(state, Ticked(), at(2))[1], ClearTree) == [ClearTree]


def test_run_timeouts_do_not_reach_an_exited_leader() -> None:
    state = play(start(run_timeout_s=1.0), *TO_RUNNING, EXIT_ZERO)[0]
    state, orders = decide(state, Ticked(), at(1.5))
    assert (state.stop, orders) == (None, ())


def test_a_leader_that_ends_before_its_exec_was_noticed_is_started_and_ended() -> None:
    state, orders = play(start(step()), *TO_RELEASED, EXIT_ZERO, PipesClosed(), Executed(), CLEARED)
    assert [order.event.step for order in orders if isinstance(order, Tell) and isinstance(order.event, Started)] == [0]
    assert _verdict(orders).outcome is Outcome.ENDED_WELL
    assert state.stage is Stage.FINISHED


def test_exec_that_failed_after_the_leaders_exit_was_seen_is_still_a_failed_spawn() -> None:
    failed = ExecFailed(errno=2, message="program 'x' was not found in PATH")
    verdict = _verdict(play(start(), *TO_RELEASED, LeaderExited(exit_code=127, signal=None), failed, CLEARED)[1])
    assert (verdict.outcome, verdict.reason) == (Outcome.START_FAILED, Reason.SPAWN_FAILED)
    assert (verdict.exit_code, verdict.steps[0].spawn_errno, verdict.message) == (None, 2, failed.message)


def test_a_kill_on_the_way_to_exec_counts_as_started_once_exec_is_known() -> None:
    state = play(start(), *TO_RELEASED, replace(STOP, grace_ns=0))[0]
    assert state.stage is Stage.CLEARING
    verdict = _verdict(play(state, Executed(), LeaderExited(exit_code=None, signal=9), CLEARED)[1])
    assert (verdict.outcome, verdict.started_at_ns) == (Outcome.ENDED_BADLY, NOW.wall_ns)


@pytest.mark.parametrize(("exit_code", "signal"), [(3, None), (None, 9)])
def test_an_exit_code_and_a_signal_are_numbers_and_not_words_too(exit_code: int | None, signal: int | None) -> None:
    exited = LeaderExited(exit_code=exit_code, signal=signal)
    verdict = _verdict(play(start(step()), *TO_RUNNING, exited, PipesClosed(), CLEARED)[1])
    assert (verdict.exit_code, verdict.signal, verdict.message) == (exit_code, signal, "")


def test_every_stop_has_words_for_the_log() -> None:
    stops = set(Reason) - {Reason.EXIT_ZERO, Reason.EXIT_NONZERO, Reason.SIGNALLED, Reason.OOM_KILLED}
    stops -= {Reason.SPAWN_FAILED, Reason.CHECKOUT_FAILED, Reason.SECRET_UNAVAILABLE, Reason.NOT_STARTED}
    stops -= {Reason.SHIM_DIED, Reason.HOST_REBOOTED, Reason.VALIDATION_FAILED}
    assert all(" " in stop_words(reason) for reason in stops)


def test_an_unproven_tree_ends_the_attempt() -> None:
    state, orders = play(start(), *TO_CLEARING, TreeCleared(killed=2, empty=False))
    assert _kinds(orders, ForkChild) == [ForkChild]
    verdict = _verdict(orders)
    assert (verdict.outcome, verdict.tree_empty) == (Outcome.ENDED_BADLY, False)
    assert "could not be killed" in verdict.message
    assert state.stage is Stage.FINISHED


def test_an_identity_that_cannot_be_stored_starts_nothing() -> None:
    failed = IdentityStored(stored=False, message="no space left")
    verdict = _verdict(play(start(), *TO_BARRIER, failed, LeaderExited(exit_code=125, signal=None), CLEARED)[1])
    assert (verdict.outcome, verdict.message) == (Outcome.NOT_STARTED, "no space left")


def test_the_runners_own_stop_before_the_start_gives_the_run_back() -> None:
    shutdown = replace(STOP, reason=Reason.RUNNER_SHUTDOWN)
    state = play(start(), *TO_BARRIER, shutdown, IdentityStored(), LeaderExited(exit_code=125, signal=None))[0]
    verdict = _verdict(play(state, CLEARED)[1])
    assert (verdict.outcome, verdict.reason, verdict.stopped_by) == (Outcome.NOT_STARTED, Reason.NOT_STARTED, None)


def test_sleep_is_short_near_a_deadline_and_never_above_half_a_minute() -> None:
    running = play(start(run_timeout_s=120.0), *TO_RUNNING)[0]
    assert sleep_s(running, at(0).boottime_ns) == 30.0
    assert sleep_s(running, at(70).boottime_ns) == 1.0
    assert sleep_s(running, at(119.5).boottime_ns) == pytest.approx(0.5)
    assert sleep_s(running, at(130).boottime_ns) == 0.0
    assert sleep_s(play(start(start_timeout_s=None), *TO_RUNNING)[0], NOW.boottime_ns) == 30.0


@pytest.mark.parametrize("stage", STATES)
def test_no_deadline_is_left_standing_once_it_was_looked_at(stage: str) -> None:
    """A deadline in the past that caused nothing would make the shim spin."""
    state: State = replace(STATES[stage], loss_deadline_ns=at(1).boottime_ns)
    state, _ = decide(state, Ticked(), at(5000))
    state, _ = decide(state, Ticked(), at(5000))
    wake = next_wake_ns(state)
    assert wake is None or wake > at(5000).boottime_ns or state.stage in (Stage.FORKING, Stage.BARRIER)


def test_a_late_or_shorter_stop_does_nothing_when_all_is_over() -> None:
    assert decide(STATES["FINISHED"], StopRequested(reason=Reason.FORCED, signal=9, grace_ns=0), NOW)[1] == ()
