"""Leaving: once drains, twice stops, three times kills; a handover leaves everything as it is."""

from __future__ import annotations

from runner_agent.domain.departure import SETTLE_OFFLINE_S, SETTLE_S
from runner_agent.domain.events import HandoverRequested, LeaveRequested, Prepared
from runner_agent.domain.held import Held, Phase
from runner_agent.domain.messages import DrainNotice, Heartbeat, Hello, LogAck, OfferReply, RejectReason, Release
from runner_agent.domain.outputs import EndUnstarted, Leave, StopTree, TerminateShim
from runner_agent.domain.reason import Reason

from .core import Core, assignment, key, sent


def connected() -> Core:
    core = Core()
    core.connect(lease_s=10_000.0)
    return core


def ask(core: Core, times: int = 1) -> None:
    for _ in range(times):
        core.feed(LeaveRequested())


def test_an_idle_agent_leaves_at_once() -> None:
    for core in (Core(), connected()):
        ask(core)
        assert core.made(Leave)


def test_once_it_finishes_what_runs_and_what_ended_is_handed_in() -> None:
    core = connected()
    core.run()
    ask(core)
    assert core.said(DrainNotice)
    assert sent(core.tick(5), Heartbeat)[0].draining
    assert core.made(StopTree) == []
    core.end()
    assert core.made(Leave) == []
    core.hear(Release(key=key()))
    assert core.made(Leave) == []
    core.forgotten()
    assert core.made(Leave)


def test_what_nobody_takes_is_left_on_disk() -> None:
    core = connected()
    core.run()
    core.end()
    ask(core)
    core.run_clock(SETTLE_S - 1)
    assert core.made(Leave) == []
    core.run_clock(2)
    assert "stays on disk" in core.made(Leave)[0].reason


def test_as_long_as_logs_move_it_stays() -> None:
    core = connected()
    core.run()
    core.end()
    ask(core)
    for offset in range(5):
        core.run_clock(SETTLE_S - 1)
        core.hear(LogAck(key=key(), committed_offset=offset, window_bytes=1))
    assert core.made(Leave) == []


def test_without_a_server_it_waits_less() -> None:
    core = Core(Held(key=key(), phase=Phase.EXITED))
    ask(core)
    core.run_clock(SETTLE_OFFLINE_S)
    assert core.made(Leave)


def test_an_accepted_attempt_still_gets_its_assignment() -> None:
    core = connected()
    core.accept()
    ask(core)
    assert core.made(Leave) == []
    core.hear(assignment())
    core.feed(Prepared(key=key()))
    assert core.phase() is Phase.FORKING
    core.run_clock(SETTLE_S + 5)
    assert core.made(Leave) == []


def test_a_drain_is_told_again_in_every_hello() -> None:
    core = connected()
    core.run()
    ask(core)
    core.cut()
    assert sent(core.open(), Hello)[0].draining


def test_twice_it_stops_with_the_tasks_own_signal_and_grace() -> None:
    core = connected()
    core.accept()
    core.hear(assignment(grace_s=33.0, stop_signal="SIGINT"))
    core.feed(Prepared(key=key()))
    core.accept("unassigned")
    core.offer("unwritten")
    ask(core, 2)
    assert core.phase("unwritten") is None
    (stopped,) = core.made(StopTree)
    assert (stopped.reason, stopped.signal, stopped.grace_s) == (Reason.RUNNER_SHUTDOWN, "SIGINT", 33.0)
    (ended,) = core.made(EndUnstarted)
    assert (ended.key.run_id, ended.report.stopped_by) == ("unassigned", Reason.RUNNER_SHUTDOWN)


def test_twice_an_acceptance_on_its_way_to_the_disk_is_refused() -> None:
    core = connected()
    core.offer()
    ask(core, 2)
    assert core.said(OfferReply)[-1].reject is RejectReason.DRAINING
    assert core.phase() is Phase.FORGETTING


def test_three_times_it_kills_and_more_changes_nothing() -> None:
    core = connected()
    core.run()
    ask(core, 3)
    assert [(order.signal, order.grace_s) for order in core.made(StopTree)] == [("SIGTERM", 10.0), ("SIGKILL", 0.0)]
    ask(core, 2)
    assert len(core.made(StopTree)) == 2
    core.end()
    core.hear(Release(key=key()))
    core.forgotten()
    assert core.made(Leave)


def test_a_shim_of_an_unknown_version_is_asked_by_signal() -> None:
    core = Core(Held(key=key(), phase=Phase.UNKNOWN_SHIM))
    ask(core)
    assert core.made(TerminateShim) == []
    ask(core)
    assert core.made(TerminateShim)[0].key == key()


def test_a_handover_leaves_at_once_and_touches_nothing() -> None:
    core = connected()
    core.run()
    core.history.clear()
    core.feed(HandoverRequested())
    assert [type(output) for output in core.history] == [Leave]
