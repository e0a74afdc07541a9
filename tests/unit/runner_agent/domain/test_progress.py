"""Progress is told soon, not too often, and again by what comes in any case."""

from __future__ import annotations

from runner_agent.domain.events import Progressed
from runner_agent.domain.exit_report import Progress
from runner_agent.domain.messages import AttemptExited, AttemptProgress, Heartbeat, Hello
from tests.unit.runner_agent.domain.core import Core, S, key, report, sent


def told(percent: float, at_ns: int = 0) -> Progressed:
    return Progressed(key=key(), progress=Progress(percent=percent, at_ns=at_ns))


def percents(core: Core) -> list[float | None]:
    return [message.progress.percent for message in core.said(AttemptProgress)]


def test_at_once_and_then_once_a_second_at_most() -> None:
    core = Core()
    core.connect()
    core.run()
    for percent in (1.0, 2.0, 3.0):
        core.feed(told(percent))
    assert percents(core) == [1.0]
    core.now += S
    core.feed(told(4.0))
    assert percents(core) == [1.0, 4.0]


def test_what_was_not_told_the_next_heartbeat_tells() -> None:
    core = Core()
    core.connect()
    core.run()
    core.feed(told(1.0))
    core.feed(told(2.0))
    (beat,) = sent(core.tick(5), Heartbeat)
    assert beat.held[0].progress == Progress(percent=2.0)


def test_a_repeat_is_nothing() -> None:
    core = Core()
    core.connect()
    core.run()
    core.feed(told(1.0))
    core.now += 5 * S
    assert core.feed(told(1.0)) == ()


def test_without_a_session_it_waits_for_the_next_hello() -> None:
    core = Core()
    core.connect()
    core.run()
    core.cut()
    assert core.feed(told(9.0)) == ()
    (hello,) = sent(core.open(), Hello)
    assert hello.inventory[0].progress == Progress(percent=9.0)


def test_the_end_has_its_own_and_what_is_unknown_is_passed_over() -> None:
    core = Core()
    core.connect()
    core.run()
    core.feed(told(50.0))
    core.end(how=report(progress=Progress(percent=100.0)))
    assert [message.exit.progress for message in core.said(AttemptExited)] == [Progress(percent=100.0)]
    (beat,) = sent(core.tick(5), Heartbeat)
    assert beat.held[0].progress is None
    other = Core()
    other.connect()
    assert other.feed(told(1.0)) == ()
