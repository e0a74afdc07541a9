"""APScheduler as an alarm clock: what is late rings at once, what is moved rings where it was moved to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from apscheduler.schedulers import base
from apscheduler.triggers import interval

from control_plane.clock import SystemClock
from control_plane.scheduling.alarms import Alarms

FAR = datetime(2999, 1, 1, tzinfo=UTC)


class Bell:
    def __init__(self) -> None:
        self.alarms = Alarms()
        self.rung: list[str] = []
        self._more = asyncio.Event()
        self.alarms.start(self._ring, lambda name: self._ring(f"every {name}"))

    def _ring(self, name: str) -> None:
        self.rung.append(name)
        self._more.set()

    async def until(self, name: str, count: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.rung.count(name) < count:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
async def bell() -> AsyncIterator[Bell]:
    made = Bell()
    yield made
    made.alarms.stop()


async def test_what_is_long_past_rings_once_and_what_is_far_does_not(bell: Bell) -> None:
    past = SystemClock().now() - timedelta(days=400)
    await bell.alarms.arm({"past": past, "far": FAR})
    await bell.until("past")
    await bell.alarms.arm({"far": FAR, "other": past})
    await bell.until("other")
    assert bell.rung == ["past", "other"]


async def test_an_instant_that_comes_rings(bell: Bell) -> None:
    await bell.alarms.arm({"soon": SystemClock().now() + timedelta(milliseconds=30)})
    await bell.until("soon")


async def test_a_moved_alarm_rings_where_it_was_moved_to(bell: Bell) -> None:
    past = SystemClock().now() - timedelta(hours=1)
    await bell.alarms.arm({"moved": FAR, "gone": FAR})
    await bell.alarms.arm({"moved": past})
    await bell.until("moved")
    await bell.alarms.arm({})
    assert bell.rung == ["moved"]


async def test_the_same_instant_can_be_armed_again_after_it_rang(bell: Bell) -> None:
    past = SystemClock().now() - timedelta(hours=1)
    for count in (1, 2):
        await bell.alarms.arm({"again": past})
        await bell.until("again", count)


async def test_intervals_ring_again_and_again_also_after_a_reset(bell: Bell) -> None:
    bell.alarms.every("chore", 0.01)
    await bell.until("every chore", 2)
    await bell.alarms.arm({"far": FAR})
    bell.alarms.reset()
    bell.rung.clear()
    await bell.until("every chore", 2)
    await bell.alarms.arm({"far": SystemClock().now() - timedelta(hours=1)})
    await bell.until("far")


async def test_an_interval_that_was_led_astray_is_known_and_rings_again(
    bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = timedelta()

    class Stepped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + ahead

    for module in (base, interval):
        monkeypatch.setattr(module, "datetime", Stepped)
    bell.alarms.every("chore", 0.01)
    await bell.until("every chore", 2)
    assert not bell.alarms.is_astray(SystemClock().now())
    ahead = timedelta(hours=1)
    await bell.until("every chore", bell.rung.count("every chore") + 2)
    ahead = timedelta()
    assert bell.alarms.is_astray(SystemClock().now())
    bell.alarms.reset()
    assert not bell.alarms.is_astray(SystemClock().now())
    await bell.until("every chore", bell.rung.count("every chore") + 2)


async def test_ten_thousand_can_be_armed(bell: Bell) -> None:
    await bell.alarms.arm({f"schedule {number}": FAR for number in range(10_000)})
    await bell.alarms.arm({"past": SystemClock().now() - timedelta(hours=1)})
    await bell.until("past")
