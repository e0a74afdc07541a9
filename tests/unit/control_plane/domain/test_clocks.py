"""Offer, start, stop and loss clocks: monotonic, in memory, and started anew after a pause."""

from dataclasses import replace

from control_plane.domain.attempt import ATTEMPT_TERMINAL, AttemptState, StopPhase
from control_plane.domain.clocks import Alarm, Clocks, Ring
from control_plane.domain.timing import Timing
from tests.fakes.cases import KEY, attempt, spec, stop

TIMING = Timing()
# lost_after 24 h by default, grace 10 s, margin 30 s + 0.2 %.
FREED_S = 86_400.0 + 10.0 + 30.0 + 172.8


def following(state: AttemptState, at_s: float = 0.0, **changes: object) -> Clocks:
    clocks = Clocks(timing=TIMING)
    clocks.follow(attempt(state, **changes), spec(), at_s)
    return clocks


def test_an_offer_stands_ten_seconds() -> None:
    clocks = following(AttemptState.OFFERED)
    assert clocks.tick(9.9) == ()
    assert clocks.tick(10.0) == (Alarm(key=KEY, ring=Ring.OFFER),)
    assert clocks.tick(11.0) == (Alarm(key=KEY, ring=Ring.OFFER),)
    clocks.follow(attempt(AttemptState.REJECTED), spec(), 11.0)
    assert clocks.tick(12.0) == ()


def test_an_offered_attempt_has_no_loss_clock() -> None:
    assert following(AttemptState.OFFERED).lost_at_s(KEY) is None


def test_the_start_timeout_counts_from_the_assignment() -> None:
    clocks = following(AttemptState.STARTING, 5.0)
    assert ticks(clocks, 604.9) == ()
    assert ticks(clocks, 605.0) == (Ring.START,)
    clocks.follow(attempt(AttemptState.RUNNING), spec(), 605.0)
    assert ticks(clocks, 606.0) == ()


def test_following_again_in_the_same_state_does_not_restart_a_clock() -> None:
    clocks = following(AttemptState.STARTING)
    clocks.follow(attempt(AttemptState.STARTING), spec(), 500.0)
    assert ticks(clocks, 600.0) == (Ring.START,)


def test_a_renewal_moves_the_loss_deadline_and_nothing_else_does() -> None:
    clocks = following(AttemptState.RUNNING)
    assert clocks.lost_at_s(KEY) == FREED_S
    clocks.renew(KEY, 100.0)
    assert clocks.lost_at_s(KEY) == 100.0 + FREED_S
    clocks.follow(attempt(AttemptState.STOPPING, stop=stop()), spec(), 200.0)
    assert clocks.lost_at_s(KEY) == 100.0 + FREED_S


def test_a_stop_with_a_longer_grace_is_waited_for() -> None:
    patient = replace(stop(), grace_s=3_600.0)
    clocks = following(AttemptState.STOPPING, stop=patient)
    assert clocks.lost_at_s(KEY) == FREED_S + 3_590.0


def test_never_means_never() -> None:
    clocks = Clocks(timing=TIMING)
    clocks.follow(attempt(AttemptState.RUNNING), spec(never=True), 0.0)
    assert clocks.lost_at_s(KEY) is None
    assert ticks(clocks, 1e9) == ()


def test_the_servers_own_pause_starts_loss_clocks_anew() -> None:
    clocks = following(AttemptState.RUNNING)
    clocks.tick(FREED_S - 100.0)
    assert clocks.tick(FREED_S + 100.0) == ()
    assert clocks.lost_at_s(KEY) == FREED_S + 100.0 + FREED_S


def test_a_tick_that_is_a_little_late_is_no_pause() -> None:
    clocks = following(AttemptState.RUNNING)
    clocks.last_tick_s = FREED_S - 4.0
    clocks.tick(FREED_S - 3.0)
    assert clocks.tick(FREED_S + 3.0) == (Alarm(key=KEY, ring=Ring.LOSS),)


def test_a_new_server_knows_no_old_deadline() -> None:
    """Loaded from the store long after the runner was last heard: the whole time counts again."""
    assert following(AttemptState.RUNNING, 5_000.0).lost_at_s(KEY) == 5_000.0 + FREED_S


def test_an_unconfirmed_stop_is_said_again_every_five_seconds() -> None:
    clocks = following(AttemptState.STOPPING, stop=stop())
    assert ticks(clocks, 4.9) == ()
    assert ticks(clocks, 5.0) == (Ring.STOP_SILENT,)
    clocks.stop_heard(KEY, 5.0)
    assert ticks(clocks, 9.9) == ()
    assert ticks(clocks, 10.0) == (Ring.STOP_SILENT,)
    clocks.follow(attempt(AttemptState.STOPPING, stop=stop(phase=StopPhase.RECEIVED)), spec(), 10.0)
    assert ticks(clocks, 60.0) == ()


def test_a_finished_attempt_has_no_clock() -> None:
    for state in ATTEMPT_TERMINAL:
        clocks = following(AttemptState.RUNNING)
        clocks.follow(attempt(state), spec(), 1.0)
        assert clocks.lost_at_s(KEY) is None
        clocks.renew(KEY, 2.0)
        assert ticks(clocks, 1e9) == ()


def test_loss_comes_before_the_start_timeout() -> None:
    clocks = Clocks(timing=TIMING)
    clocks.follow(attempt(AttemptState.STARTING), replace(spec(lost_after_s=30.0), start_timeout_s=1.0), 0.0)
    assert ticks(clocks, 1.0) == (Ring.START,)
    assert ticks(clocks, 71.0) == (Ring.LOSS,)


def ticks(clocks: Clocks, now_s: float) -> tuple[Ring, ...]:
    """One tick whose predecessor was on time."""
    clocks.last_tick_s = now_s - 1.0
    return tuple(alarm.ring for alarm in clocks.tick(now_s))
