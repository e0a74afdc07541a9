"""Alarms at instants and at intervals, by APScheduler: the only file that imports it.

It keeps jobs in memory only and knows nothing but names: what is due, and whether it was fired already, is decided by
the tables. Its timers follow wall time, so after a step of the clock everything has to be set anew (`reset`).
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

Ring = Callable[[str], None]

TURN = 200
# An interval that rings this much later than it should is no sign of anything.
SLACK_S = 1.0
_EVERY = "every:"


class AlarmClock(Protocol):
    """What the scheduler needs. For the event loop's thread."""

    def start(self, ring_at: Ring, ring_every: Ring) -> None:
        """Begin to ring: `ring_at` gets the name of an instant's alarm, once; `ring_every` that of an interval."""
        ...

    def stop(self) -> None: ...

    async def arm(self, instants: Mapping[str, datetime]) -> None:
        """These instants and no others. One that lies in the past rings at once; one that is set already stays."""
        ...

    def every(self, name: str, seconds: float) -> None:
        """Ring from now on at this interval."""
        ...

    def is_astray(self, now: datetime) -> bool:
        """Whether an interval would be silent for longer than it is: the wall clock was set, and was set back since."""
        ...

    def reset(self) -> None:
        """The wall clock was set: begin all intervals anew and forget the instants."""
        ...


class Alarms:
    """An `AlarmClock` of APScheduler jobs: one per instant (its name is the job's id), one per interval."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            # By default APScheduler drops what is more than a second late.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._armed: dict[str, datetime] = {}
        self._intervals: dict[str, float] = {}
        self._ring_at: Ring | None = None
        self._ring_every: Ring | None = None

    def start(self, ring_at: Ring, ring_every: Ring) -> None:
        self._ring_at, self._ring_every = ring_at, ring_every
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    async def arm(self, instants: Mapping[str, datetime]) -> None:
        for name in self._armed.keys() - instants.keys():
            self._drop(name)
        for number, (name, instant) in enumerate(instants.items(), 1):
            if number % TURN == 0:
                await asyncio.sleep(0)  # thousands take a second: others get their turn in between
            if self._armed.get(name) != instant:
                self._armed[name] = instant
                trigger = DateTrigger(run_date=instant, timezone=UTC)
                self._scheduler.add_job(self._at, trigger, args=(name, instant), id=name, replace_existing=True)

    def every(self, name: str, seconds: float) -> None:
        self._intervals[name] = seconds
        trigger = IntervalTrigger(seconds=seconds, timezone=UTC)
        self._scheduler.add_job(self._each, trigger, args=(name,), id=_EVERY + name, replace_existing=True)

    def is_astray(self, now: datetime) -> bool:
        return any(
            self._is_far(name, now + timedelta(seconds=every_s + SLACK_S)) for name, every_s in self._intervals.items()
        )

    def _is_far(self, name: str, latest: datetime) -> bool:
        job = self._scheduler.get_job(_EVERY + name)
        return job is None or job.next_run_time > latest

    def reset(self) -> None:
        self._scheduler.remove_all_jobs()
        self._armed.clear()
        for name, seconds in self._intervals.items():
            self.every(name, seconds)

    def _drop(self, name: str) -> None:
        del self._armed[name]
        if self._scheduler.get_job(name) is not None:
            self._scheduler.remove_job(name)

    async def _at(self, name: str, instant: datetime) -> None:
        # An alarm that was moved while it rang is not this one any more.
        if self._armed.get(name) == instant:
            del self._armed[name]
            if self._ring_at is not None:
                self._ring_at(name)

    async def _each(self, name: str) -> None:
        if self._ring_every is not None:
            self._ring_every(name)
