"""Ids that sort, and wake-ups that are never lost."""

import asyncio
from datetime import UTC
from uuid import UUID

from control_plane.clock import SystemClock, uuid7
from control_plane.watch import Watch


def test_ids_are_version_7_and_sort_by_birth() -> None:
    clock = SystemClock()
    made = [clock.new_id() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {UUID(each).version for each in made} == {7}
    assert {UUID(each).variant for each in made} == {"specified in RFC 4122"}


def test_uuid7_holds_its_milliseconds() -> None:
    assert uuid7(0x017F22E279B0, 0xCC3, 0x18C4DC0C0C07398F) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_ids_never_run_ahead_of_the_clock_by_more_than_half_a_day() -> None:
    """A clock that was wrong for a while must not hide from lists what is made after it."""
    day_ns, hours_ns = 86_400 * 10**9, 3_600 * 10**9
    instants = [day_ns * 9, day_ns * 9 - hours_ns * 11, day_ns * 2, day_ns * 2 + hours_ns]
    clock = SystemClock(wall_ns=iter(instants).__next__)
    wrong, after_a_step, corrected, later = [clock.new_id() for _ in instants]
    assert after_a_step > wrong
    assert _unix_ms(corrected) == instants[2] // 1_000_000
    assert corrected < later < wrong


def _unix_ms(made: str) -> int:
    return UUID(made).int >> 80


def test_the_system_clock_is_aware_and_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic_s() <= clock.monotonic_s()
    assert len(clock.token_bytes(32)) == 32
    assert 0.0 <= clock.jitter() < 1.0


async def test_a_notify_between_two_waits_is_kept_and_several_are_one() -> None:
    watch = Watch()
    with watch.subscribe("a", "b") as wakeups:
        assert not await wakeups.wait(0.0)
        watch.notify("a")
        watch.notify("b", "a")
        assert await wakeups.wait(0.0)
        assert not await wakeups.wait(0.0)
        watch.notify("c")
        assert not await wakeups.wait(0.0)


async def test_a_waiter_is_woken() -> None:
    watch = Watch()
    with watch.subscribe("a") as wakeups:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wakeups.wait(None), name="waiter")
            group.create_task(_later(watch), name="notifier")
        assert waiting.result()


async def _later(watch: Watch) -> None:
    watch.notify("a")


async def test_who_has_left_is_forgotten() -> None:
    watch = Watch()
    with watch.subscribe("a") as stays:
        with watch.subscribe("a") as leaves:
            pass
        watch.notify("a")
        assert await stays.wait(0.0)
        assert not await leaves.wait(0.0)
    watch.notify("a")
