"""Schedules fire: those that are due soon are armed, the one that rings is fired by a verb, and the tables stay right.

The tables are the truth and the alarms only a clock: an alarm that rings twice, late or for nothing changes nothing,
because a firing takes its instant in the transaction that creates the run.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from control_plane.domain.errors import BanksmanError
from control_plane.domain.ids import ScheduleId
from control_plane.domain.schedule import FiringOrigin
from control_plane.lifecycle import paces, schedules
from control_plane.lifecycle.house import House
from control_plane.scheduling.alarms import AlarmClock, Alarms
from control_plane.storage import reads
from control_plane.telemetry import logger

log = logger("scheduling")

TOPIC = "schedules"
HORIZON = "horizon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """Housekeeping that is done every `every_s`, never twice at once. What it returns is not looked at."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """Schedules due within `horizon_s` are armed, at most `most_armed` of them, every `rearm_s` and at each change."""

    horizon_s: float = 60.0
    rearm_s: float = 30.0
    most_armed: int = 10_000
    fires_at_once: int = 64
    retry_s: float = 1.0
    # The same after an error that is not one of ours: its traceback is long.
    trouble_s: float = 5.0
    # How often alarms are looked at that a clock, set and set back unnoticed, may have led astray.
    guard_s: float = 5.0


class Scheduler:
    """`run` arms and fires until it is cancelled. For the event loop's thread."""

    def __init__(
        self,
        house: House,
        chores: tuple[Chore, ...] = (),
        *,
        alarms: AlarmClock | None = None,
        settings: SchedulerSettings | None = None,
    ) -> None:
        self._house = house
        self._chores = {chore.name: chore for chore in chores}
        self._alarms: AlarmClock = alarms or Alarms()
        self._settings = settings or SchedulerSettings()
        self._armed: dict[str, datetime] = {}
        # Rung and not fired yet; those of them that nobody fires yet.
        self._due: dict[str, datetime] = {}
        self._rung: deque[tuple[str, datetime]] = deque()
        self._room = asyncio.Semaphore(self._settings.fires_at_once)
        self._fire = asyncio.Event()
        self._arm = asyncio.Event()
        # At the start too, and each time the horizon rings: the clock may have been set while nobody noticed.
        self._stepped = True
        self._chore_due = {chore.name: asyncio.Event() for chore in chores}

    async def run(self) -> None:
        """Until cancelled. A database that does not answer delays firings, it ends nothing."""
        self._alarms.start(self._rang, self._rang_every)
        try:
            self._alarms.every(HORIZON, self._settings.rearm_s)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_changes(), name="schedule-changes")
                group.create_task(self._fire_loop(group), name="schedule-firings")
                group.create_task(self._guard(), name="schedule-guard")
                for chore in self._chores.values():
                    self._alarms.every(chore.name, chore.every_s)
                    group.create_task(self._chore_loop(chore), name=f"chore-{chore.name}")
                await self._arm_loop()
        finally:
            self._alarms.stop()

    async def rearm(self, step_s: float) -> None:
        """The wall clock was set by so much: every alarm is set anew, for the new time."""
        log.info("alarms are set anew", step_s=round(step_s, 3))
        self._alarms.reset()
        self._armed = {}
        self._stepped = True
        self._arm.set()

    async def _guard(self) -> None:
        """By monotonic time: a clock that was set and set back between two looks at it is known by what it leaves."""
        while True:
            await asyncio.sleep(self._settings.guard_s)
            try:
                if self._alarms.is_astray(self._house.clock.now()):
                    log.warning("the wall clock was set, and set back")
                    await self.rearm(0.0)
            except Exception:  # one bad look must not be the last one
                log.exception("alarms could not be looked at")

    @property
    def busy(self) -> bool:
        """Whether something has rung that is not fired yet."""
        return bool(self._due)

    # -- arming -------------------------------------------------------------------------------------------------------

    async def _watch_changes(self) -> None:
        with self._house.watch.subscribe(TOPIC) as changed:
            while True:
                self._arm.set()
                await changed.wait()

    async def _arm_loop(self) -> None:
        while True:
            await self._arm.wait()
            self._arm.clear()
            try:
                await self.arm()
            except BanksmanError as error:
                log.warning("schedules could not be read", error=str(error))
                await asyncio.sleep(self._settings.retry_s)
                self._arm.set()
            except Exception:  # what is armed goes on ringing, and everything else goes on
                log.exception("schedules could not be armed")
                await asyncio.sleep(self._settings.trouble_s)
                self._arm.set()

    async def arm(self) -> None:
        """Arm what is due within the horizon, earliest first. Raises BanksmanError."""
        if self._stepped:
            self._stepped = False
            try:
                await paces.keep_pace(self._house)
            except BanksmanError:
                self._stepped = True
                raise
            except Exception:  # schedules that keep pace must not wait for one that cannot
                self._stepped = True
                log.exception("schedules could not be brought up to the clock")
        before = self._house.clock.now() + timedelta(seconds=self._settings.horizon_s)
        body = partial(reads.due_schedules, before=before, limit=self._settings.most_armed)
        wanted = await self._house.database.read(body)
        # What has rung is being fired; its row tells the next instant when that is done.
        self._armed = {name: instant for name, instant in wanted.items() if self._due.get(name) != instant}
        await self._alarms.arm(dict(self._armed))

    def _rang(self, name: str) -> None:
        instant = self._armed.pop(name, None)
        if instant is not None:
            self._due[name] = instant
            self._rung.append((name, instant))
            self._fire.set()

    def _rang_every(self, name: str) -> None:
        if name == HORIZON:
            self._stepped = True
            self._arm.set()
        else:
            self._chore_due[name].set()

    # -- firing -------------------------------------------------------------------------------------------------------

    async def _fire_loop(self, group: asyncio.TaskGroup) -> None:
        """A window that moves on with each that is done: of a thousand at once the database always has some."""
        while True:
            await self._fire.wait()
            self._fire.clear()
            while self._rung:
                await self._room.acquire()
                name, instant = self._rung.popleft()
                group.create_task(self._fire_one(name, instant), name=f"fire-{name}")

    async def _fire_one(self, name: str, instant: datetime) -> None:
        """Fire one instant. When that fails, its row still says that it is due: it is armed, and rings, again."""
        try:
            await schedules.fire(self._house, ScheduleId(name), instant, FiringOrigin.SCHEDULE)
        except BanksmanError as error:
            log.warning("a schedule could not be fired yet", schedule=name, error=str(error))
            await asyncio.sleep(self._settings.retry_s)
        except Exception:  # one schedule that cannot be fired must not take the control plane down
            log.exception("a schedule could not be fired", schedule=name)
            await asyncio.sleep(self._settings.retry_s)
        finally:
            self._room.release()
            self._due.pop(name, None)
            if not self._due:
                self._arm.set()

    # -- housekeeping -------------------------------------------------------------------------------------------------

    async def _chore_loop(self, chore: Chore) -> None:
        due = self._chore_due[chore.name]
        while True:
            await due.wait()
            due.clear()
            try:
                await chore.run()
            except Exception:  # housekeeping must not take the control plane down; it comes again
                log.exception("housekeeping failed", chore=chore.name)
