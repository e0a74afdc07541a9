"""The session's life in the core: Hello and its pages, Welcome, heartbeats, silence, parting."""

from __future__ import annotations

import pytest

from runner_agent.domain.events import Exited, JournalDone, SessionClosed, Started, StepOver, StopMoved
from runner_agent.domain.exit_report import StepReport
from runner_agent.domain.greeting import PAGE_BYTES, PAGE_ENTRIES, WELCOME_TIMEOUT_S
from runner_agent.domain.held import Held, Phase
from runner_agent.domain.messages import (
    AttemptExited,
    AttemptStarted,
    Drain,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    HeldPhase,
    Hello,
    LogAck,
    LogRewind,
    OfferReply,
    Resume,
    StepEnded,
    StopPhase,
    StopStatus,
    Unintelligible,
    VerdictKind,
)
from runner_agent.domain.outputs import (
    AckLog,
    CloseLog,
    CloseSession,
    HeardLog,
    JournalAccept,
    LogGrew,
    Note,
    OpenLog,
    RewindLog,
    Send,
    SetLogLimits,
)
from runner_agent.domain.reconciler import next_wake
from runner_agent.domain.state import SessionPhase

from .core import Core, S, assignment, key, report, sent, stop, verdict


def held(count: int, **changes: object) -> list[Held]:
    return [Held(key=key(f"r{i:04}"), phase=Phase.EXITED, exit=report(**changes)) for i in range(count)]


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (PAGE_ENTRIES, 1), (PAGE_ENTRIES + 1, 2), (1200, 3)])
def test_hello_lists_everything_in_pages(count: int, pages: int) -> None:
    hellos = sent(Core(*held(count)).open(), Hello)
    assert [hello.more for hello in hellos] == [True] * (pages - 1) + [False]
    assert sum(len(hello.inventory) for hello in hellos) == count
    assert all(len(hello.inventory) <= PAGE_ENTRIES for hello in hellos)


def test_a_page_of_hello_fits_into_a_message() -> None:
    hellos = sent(Core(*held(20, result_data="x" * (256 << 10))).open(), Hello)
    assert all(sum(len(e.exit.result_data) for e in hello.inventory if e.exit) <= PAGE_BYTES for hello in hellos)
    assert sum(len(hello.inventory) for hello in hellos) == 20


def test_hello_stays_small_enough_for_the_server_to_take_whole() -> None:
    hellos = sent(Core(*held(200, result_data="x" * (256 << 10))).open(), Hello)
    assert len(hellos) < 20
    assert sum(len(hello.inventory) for hello in hellos) == 200


def test_a_heartbeat_holds_no_more_exit_records_than_fit_and_still_lists_all() -> None:
    core = Core(*held(20, result_data="x" * (256 << 10)))
    core.connect()
    (beat,) = sent(core.tick(5), Heartbeat)
    assert len(beat.held) == 20
    assert 0 < sum(entry.exit is not None for entry in beat.held) < 5


def test_before_welcome_nothing_but_hello_is_said_and_nothing_else_believed() -> None:
    core = Core(Held(key=key("old"), phase=Phase.RUNNING))
    core.offer()
    core.open()
    core.history.clear()
    core.offer()
    core.hear(assignment("old"))
    core.hear(stop("old"))
    core.hear(HeartbeatAck(seq=1, next_interval_s=5))
    core.feed(Started(key=key("old"), pid=1, at_ns=1))
    core.end("old")
    core.run_clock(WELCOME_TIMEOUT_S - 1)
    assert core.made(Send) == []
    assert core.made(JournalAccept) == []
    assert {type(output) for output in core.history} == {Note}


def test_what_happens_between_hello_and_welcome_is_told_after_it() -> None:
    core = Core(Held(key=key("a"), phase=Phase.FORKING), Held(key=key("b"), phase=Phase.RUNNING))
    core.open()
    core.feed(Started(key=key("a"), pid=1, at_ns=1))
    core.feed(Exited(key=key("b"), report=report()))
    core.welcome()
    assert [message.key.run_id for message in core.said(AttemptStarted)] == ["a"]
    assert [message.key.run_id for message in core.said(AttemptExited)] == ["b"]


def test_an_acceptance_that_was_journalled_meanwhile_is_told_after_welcome() -> None:
    core = Core()
    core.connect()
    core.offer()
    core.cut()
    core.open()
    core.feed(JournalDone(key=key()))
    core.welcome()
    assert [reply.key for reply in core.said(OfferReply)] == [key()]


def test_welcome_sets_the_limits_and_the_first_heartbeat() -> None:
    core = Core()
    core.connect(interval_s=7.0, lease_s=21.0)
    assert core.made(SetLogLimits)[0].max_chunk_bytes == 1 << 16
    assert next_wake(core.state) == core.now + 7 * S


def test_a_welcome_in_another_protocol_ends_the_session() -> None:
    core = Core()
    core.open()
    core.welcome(protocol=2)
    assert "protocol 2" in core.made(CloseSession)[0].reason
    core.offer()
    assert core.made(JournalAccept) == []


def test_a_second_welcome_is_not_believed() -> None:
    core = Core()
    core.connect()
    core.welcome(draining=True)
    assert core.state.server_draining is False


def test_no_welcome_in_time_ends_the_session() -> None:
    core = Core()
    core.open()
    assert [type(o) for o in core.run_clock(WELCOME_TIMEOUT_S)] == [CloseSession]
    assert core.run_clock(600) == [], "once is enough"


def test_heartbeats_come_at_the_interval_that_the_server_names() -> None:
    core = Core()
    core.connect(interval_s=5.0, lease_s=1_000.0)
    assert [beat.seq for beat in sent(core.run_clock(20), Heartbeat)] == [1, 2, 3, 4]
    core.hear(HeartbeatAck(seq=4, next_interval_s=1.0))
    assert len(sent(core.run_clock(5), Heartbeat)) == 5


def test_a_silent_server_is_left_after_a_lease() -> None:
    core = Core()
    core.connect(interval_s=5.0, lease_s=15.0)
    outputs = core.run_clock(60)
    assert len(sent(outputs, Heartbeat)) == 2
    assert "silent for 15 s" in core.made(CloseSession)[0].reason


def test_any_word_of_the_server_is_a_sign_of_life() -> None:
    core = Core()
    core.connect(interval_s=5.0, lease_s=15.0)
    for _ in range(10):
        core.run_clock(10)
        core.hear(LogAck(key=key("nobody"), committed_offset=0, window_bytes=0))
    assert core.made(CloseSession) == []


@pytest.mark.parametrize("welcomed", [True, False])
def test_goodbye_is_obeyed(welcomed: bool) -> None:
    core = Core()
    core.open()
    if welcomed:
        core.welcome()
    core.hear(Goodbye(reason="restart", reconnect_after_s=3.0, jitter_s=2.0))
    (closed,) = core.made(CloseSession)
    assert (closed.reconnect_after_s, closed.jitter_s) == (3.0, 2.0)
    core.offer()
    assert core.made(JournalAccept) == []


def test_a_closed_session_changes_nothing_on_the_host_and_forgets_what_it_was_told() -> None:
    core = Core()
    core.connect()
    core.run()
    core.history.clear()
    core.cut()
    assert [type(output) for output in core.history] == [CloseLog]
    assert core.phase() is Phase.RUNNING
    assert core.state.session.phase is SessionPhase.OFFLINE
    assert next_wake(core.state) is None
    (hello,) = sent(core.open(), Hello)
    assert (hello.inventory[0].phase, hello.inventory[0].pid) == (HeldPhase.RUNNING, 7)


def test_logs_flow_only_where_the_server_has_said_from_where_on() -> None:
    core = Core(*(Held(key=key(run), phase=Phase.EXITED, exit=report(), spooled_offset=10) for run in "abcd"))
    core.open()
    core.welcome(
        verdict(VerdictKind.KEEP, "a", resume_offset=3, exit_stored=True),
        verdict(VerdictKind.UNKNOWN, "b"),
        verdict(VerdictKind.SEND_EXIT, "c", resume_offset=5),
    )
    assert {(o.key.run_id, o.offset, o.spooled_offset) for o in core.made(OpenLog)} == {("a", 3, 10), ("c", 5, 10)}
    (beat,) = sent(core.tick(5), Heartbeat)
    late = (verdict(VerdictKind.KEEP, "a", resume_offset=4), verdict(VerdictKind.KEEP, "d", resume_offset=0))
    core.hear(HeartbeatAck(seq=beat.seq, next_interval_s=5, verdicts=late))
    assert [(o.key.run_id, o.committed_offset) for o in core.made(HeardLog)] == [("a", 4)]
    assert core.made(OpenLog)[-1].key.run_id == "d"


def test_log_answers_are_passed_on() -> None:
    core = Core()
    core.connect()
    core.run()
    core.hear(LogAck(key=key(), committed_offset=5, window_bytes=9))
    core.hear(LogRewind(key=key(), expected_offset=2))
    assert [(o.committed_offset, o.window_bytes) for o in core.made(AckLog)] == [(5, 9)]
    assert [o.expected_offset for o in core.made(RewindLog)] == [2]


def test_the_end_of_a_log_is_read_again_when_the_attempt_is_over() -> None:
    core = Core()
    core.connect()
    core.run()
    core.end()
    assert [o.spooled_offset for o in core.made(LogGrew)] == [10, 10]


def test_steps_and_stops_are_told() -> None:
    core = Core()
    core.connect()
    core.run()
    core.feed(StepOver(key=key(), step=StepReport(index=0, exit_code=1)))
    core.hear(stop())
    core.feed(StopMoved(key=key(), phase=StopPhase.SIGNALLED, survivors=0, at_ns=1))
    core.feed(StopMoved(key=key(), phase=StopPhase.KILLED, survivors=2, at_ns=2))
    assert [message.step.exit_code for message in core.said(StepEnded)] == [1]
    assert [message.phase for message in core.said(StopStatus)] == ["RECEIVED", "SIGNALLED", "KILLED"]
    (beat,) = sent(core.tick(5), Heartbeat)
    assert beat.held[0].stop is not None
    assert (beat.held[0].stop.phase, beat.held[0].stop.survivors) == (StopPhase.KILLED, 2)


def test_a_repeated_stop_is_answered_but_not_given_twice_unless_it_hurries() -> None:
    from runner_agent.domain.outputs import StopTree

    core = Core()
    core.connect()
    core.run()
    core.hear(stop(grace_s=10))
    core.hear(stop(grace_s=10))
    assert len(core.made(StopTree)) == 1
    assert len(core.said(StopStatus)) == 2
    core.hear(stop(grace_s=0))
    assert [order.grace_s for order in core.made(StopTree)] == [10, 0]


def test_the_server_drains_and_resumes() -> None:
    core = Core()
    core.connect()
    core.hear(Drain())
    assert core.state.draining
    core.hear(Resume())
    assert not core.state.draining
    core.cut()
    core.connect(draining=True)
    assert core.state.draining


def test_an_unknown_message_is_passed_over() -> None:
    core = Core()
    core.connect()
    (note,) = core.hear(Unintelligible(what="fields ['later']"))
    assert isinstance(note, Note)
    core.offer()
    assert core.made(JournalAccept)


def test_closing_without_a_session_is_harmless() -> None:
    assert Core().feed(SessionClosed()) == ()
