"""Schedules fire by the tables: once each, in order, after changes, downtime, failures and steps of the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from control_plane.domain.errors import ErrorCode, Unavailable
from control_plane.domain.run import Run, RunState, TriggerType
from control_plane.domain.schedule import CatchUpPolicy, OverlapPolicy, Schedule, ScheduleDraft
from control_plane.lifecycle import schedules
from control_plane.scheduling import scheduler as scheduling
from control_plane.scheduling.alarms import Ring
from control_plane.scheduling.scheduler import Chore, Scheduler, SchedulerSettings
from control_plane.storage import reads
from tests.fakes.world import World


class HandAlarms:
    """An alarm clock that rings when the test says so."""

    def __init__(self) -> None:
        self.armed: dict[str, datetime] = {}
        self.intervals: dict[str, float] = {}
        self.resets = 0
        self.astray = False
        self.running = False
        self._changed = asyncio.Event()
        self._ring_at: Ring | None = None
        self._ring_every: Ring | None = None

    def start(self, ring_at: Ring, ring_every: Ring) -> None:
        self._ring_at, self._ring_every = ring_at, ring_every
        self.running = True
        self._changed.set()

    def stop(self) -> None:
        self.running = False

    async def arm(self, instants: Mapping[str, datetime]) -> None:
        self.armed = dict(instants)
        self._changed.set()

    def every(self, name: str, seconds: float) -> None:
        self.intervals[name] = seconds
        self._changed.set()

    def is_astray(self, now: datetime) -> bool:
        return self.astray

    def reset(self) -> None:
        self.resets += 1
        self.armed = {}
        self.astray = False

    def ring(self, name: str) -> None:
        del self.armed[name]
        assert self._ring_at is not None
        self._ring_at(name)

    def ring_every(self, name: str) -> None:
        assert self._ring_every is not None
        self._ring_every(name)

    async def until(self, condition: Callable[[dict[str, datetime]], bool]) -> None:
        """Until what is armed satisfies the condition."""
        async with asyncio.timeout(20):
            while not condition(self.armed):
                self._changed.clear()
                await self._changed.wait()


class Stage:
    def __init__(self, world: World) -> None:
        self.world = world
        self.alarms = HandAlarms()
        self.chores: tuple[Chore, ...] = ()
        self.settings = SchedulerSettings(retry_s=0.0, trouble_s=0.0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scheduler]:
        scheduler = Scheduler(self.world.house, self.chores, alarms=self.alarms, settings=self.settings)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(scheduler.run(), name="scheduler")
            yield scheduler
            task.cancel()
        assert not self.alarms.running

    async def schedule(self, **draft: object) -> Schedule:
        task = draft.pop("task", None) or await self.world.task(name=f"task of {draft['name']}")
        made = ScheduleDraft(task=task.id, **draft)  # type: ignore[arg-type]
        return await schedules.create(self.world.house, self.world.caller(), self.world.project_id, made)

    async def stored(self, schedule: Schedule) -> Schedule:
        found = await self.world.house.database.read(lambda conn: reads.schedule(conn, schedule.id))
        assert found is not None
        return found

    async def runs(self) -> list[Run]:
        """All runs, in the order of their instants."""
        project_id, most = self.world.project_id, reads.PageRequest(page_size=1000)
        page = await self.world.house.database.read(
            lambda conn: reads.list_runs(conn, project_id, reads.RunFilter(), most)
        )
        return sorted(page.items, key=lambda run: (run.scheduled_time or run.created_at, run.id))

    async def fire(self, schedule: Schedule) -> None:
        """Ring, and wait until the schedule's next instant is stored."""
        before = (await self.stored(schedule)).next_fire_at
        self.alarms.ring(schedule.id)
        with self.world.house.watch.subscribe("schedules") as changed:
            async with asyncio.timeout(20):
                while (await self.stored(schedule)).next_fire_at == before:
                    await changed.wait()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    world = World(tmp_path / "state")
    await world.settle_in()
    yield Stage(world)
    await world.house.database.close()


async def test_what_is_due_within_the_horizon_is_armed(stage: Stage) -> None:
    soon = await stage.schedule(name="soon", every_s=50.0)
    await stage.schedule(name="later", every_s=3_600.0)
    async with stage.running():
        await stage.alarms.until(lambda armed: armed == {soon.id: soon.next_fire_at})
        assert stage.alarms.intervals == {"horizon": 30.0}


async def test_the_earliest_are_armed_first_when_there_are_too_many(stage: Stage) -> None:
    stage.settings = SchedulerSettings(most_armed=2)
    made = [await stage.schedule(name=f"s{number}", every_s=50.0 - number) for number in range(4)]
    async with stage.running():
        await stage.alarms.until(lambda armed: set(armed) == {made[3].id, made[2].id})


async def test_a_firing_makes_a_run_and_arms_the_next_instant(stage: Stage) -> None:
    made = await stage.schedule(name="often", every_s=20.0, overlap=OverlapPolicy.ALLOW)
    async with stage.running():
        for number in (1, 2, 3):
            instant = made.created_at + timedelta(seconds=20.0 * number)
            await stage.alarms.until(lambda armed, instant=instant: armed.get(made.id) == instant)  # type: ignore[misc]
            stage.world.clock.advance(20.0)
            await stage.fire(made)
    runs = await stage.runs()
    assert [run.scheduled_time for run in runs] == [made.created_at + timedelta(seconds=20 * n) for n in (1, 2, 3)]
    assert all(run.trigger_type is TriggerType.SCHEDULED and run.schedule_id == made.id for run in runs)


async def test_an_alarm_that_rings_twice_or_for_nothing_changes_nothing(stage: Stage) -> None:
    made = await stage.schedule(name="s", every_s=20.0)
    async with stage.running():
        await stage.alarms.until(lambda armed: made.id in armed)
        stage.world.clock.advance(20.0)
        instant = stage.alarms.armed[made.id]
        await stage.fire(made)
        await stage.alarms.until(lambda armed: armed.get(made.id, instant) != instant)
        stage.alarms.ring(made.id)  # before its time
        await stage.alarms.until(lambda armed: made.id in armed)
    assert len(await stage.runs()) == 1


async def test_changes_are_armed_at_once(stage: Stage) -> None:
    house = stage.world.house
    async with stage.running():
        await stage.alarms.until(lambda armed: armed == {})
        made = await stage.schedule(name="s", every_s=20.0)
        await stage.alarms.until(lambda armed: made.id in armed)
        await schedules.pause(house, made.id)
        await stage.alarms.until(lambda armed: made.id not in armed)
        await schedules.resume(house, made.id)
        await stage.alarms.until(lambda armed: made.id in armed)
        moved = schedules.ScheduleChange(when=schedules.When(every_s=30.0))
        await schedules.update(house, made.id, moved)
        await stage.alarms.until(lambda armed: armed.get(made.id) == made.created_at + timedelta(seconds=30))
        await schedules.delete(house, made.id)
        await stage.alarms.until(lambda armed: armed == {})


@pytest.mark.parametrize(("policy", "expected"), [(CatchUpPolicy.SKIP, []), (CatchUpPolicy.ONE, [1])])
async def test_after_downtime_missed_instants_follow_the_policy(
    stage: Stage, policy: CatchUpPolicy, expected: list[int]
) -> None:
    made = await stage.schedule(name="s", every_s=86_400.0, catch_up=policy)
    stage.world.clock.advance(86_400.0 + 3_600.0)
    await stage.world.restart()
    async with stage.running():
        await stage.alarms.until(lambda armed: made.id in armed)
        await stage.fire(made)
    assert [run.scheduled_time for run in await stage.runs()] == [
        made.created_at + timedelta(days=number) for number in expected
    ]
    assert (await stage.stored(made)).next_fire_at == made.created_at + timedelta(days=2)


async def test_an_overlap_is_skipped_and_leaves_a_run_that_says_so(stage: Stage) -> None:
    made = await stage.schedule(name="s", every_s=20.0)
    async with stage.running():
        for _ in range(2):
            await stage.alarms.until(lambda armed: made.id in armed)
            stage.world.clock.advance(20.0)
            await stage.fire(made)
    assert [run.state for run in await stage.runs()] == [RunState.QUEUED, RunState.SKIPPED]


async def test_a_step_of_the_wall_clock_back_fires_nothing_twice(stage: Stage) -> None:
    made = await stage.schedule(name="s", every_s=20.0, overlap=OverlapPolicy.ALLOW)
    async with stage.running() as scheduler:
        await stage.alarms.until(lambda armed: made.id in armed)
        stage.world.clock.advance(20.0)
        await stage.fire(made)
        stage.world.clock.step_wall(-30.0)
        await scheduler.rearm(-30.0)
        assert stage.alarms.resets == 1
        # Within one interval again, and not at an instant that has fired.
        anew = made.created_at + timedelta(microseconds=1)
        await stage.alarms.until(lambda armed: armed.get(made.id) == anew)
        assert len(await stage.runs()) == 1
        stage.world.clock.advance(11.0)
        await stage.fire(made)
    assert [run.scheduled_time for run in await stage.runs()] == [anew, made.created_at + timedelta(seconds=20)]


async def test_a_step_forward_and_back_that_nobody_noticed_is_made_good(stage: Stage) -> None:
    made = await stage.schedule(name="s", every_s=20.0, overlap=OverlapPolicy.ALLOW)
    stage.settings = SchedulerSettings(guard_s=0.01)
    async with stage.running():
        await stage.alarms.until(lambda armed: made.id in armed)
        stage.world.clock.step_wall(3_600.0)
        await stage.fire(made)
        stage.world.clock.step_wall(-3_600.0)
        latest = stage.world.clock.now() + timedelta(seconds=21)
        stage.alarms.astray = True
        await stage.alarms.until(lambda armed: made.id in armed and armed[made.id] <= latest)
        assert stage.alarms.resets == 1
        stage.world.clock.step_wall(3_600.0)
        await stage.fire(made)
        stage.world.clock.step_wall(-3_600.0)
        # No alarm of ours was astray: the schedule's own instant is looked at whenever the horizon rings.
        stage.alarms.ring_every("horizon")
        await stage.alarms.until(lambda armed: made.id in armed and armed[made.id] <= latest)
        assert stage.alarms.resets == 1


async def test_the_next_instant_of_an_interval_is_not_far_away_after_a_start(stage: Stage) -> None:
    """The clock was set back while nobody was there to notice."""
    made = await stage.schedule(name="s", every_s=20.0)
    nightly = await stage.schedule(name="n", cron="0 0 * * *")
    assert nightly.next_fire_at is not None
    stage.world.clock.step_wall(-3_600.0)
    async with stage.running():
        now = stage.world.clock.now()
        await stage.alarms.until(lambda armed: made.id in armed and armed[made.id] <= now + timedelta(seconds=20))
        assert nightly.id not in stage.alarms.armed, "a rule that names local times has had them"


@pytest.mark.parametrize("error", [Unavailable(ErrorCode.STORAGE_UNAVAILABLE), LookupError("no spec")])
async def test_a_firing_that_fails_is_late_and_nothing_else(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    made = await stage.schedule(name="s", every_s=20.0)
    real, tries = schedules.fire, 0

    async def failing(*arguments: object) -> Run | None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise error
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scheduling.schedules, "fire", failing)
    async with stage.running():
        stage.world.clock.advance(20.0)
        for _ in range(2):
            await stage.alarms.until(lambda armed: made.id in armed)
            stage.alarms.ring(made.id)
        await stage.alarms.until(lambda armed: made.id in armed)
        await stage.fire(made)
    assert (tries, len(await stage.runs())) == (3, 1)


async def test_arming_that_fails_is_tried_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = reads.due_schedules, 0

    def failing(*arguments: object, **words: object) -> Mapping[str, datetime]:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise LookupError("a mistake")
        return real(*arguments, **words)  # type: ignore[arg-type]

    async def out_of_step(*_: object) -> None:
        raise LookupError("a mistake")

    made = await stage.schedule(name="s", every_s=20.0)
    monkeypatch.setattr(scheduling.reads, "due_schedules", failing)
    monkeypatch.setattr(scheduling.paces, "keep_pace", out_of_step)
    async with stage.running():
        await stage.alarms.until(lambda armed: made.id in armed)
    assert tries == 3


async def test_a_look_at_the_alarms_that_fails_is_not_the_last_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, again = 0, asyncio.Event()

    def failing(_: datetime) -> bool:
        nonlocal looks
        looks += 1
        if looks > 1:
            again.set()
        raise LookupError("a mistake")

    monkeypatch.setattr(stage.alarms, "is_astray", failing)
    stage.settings = replace(stage.settings, guard_s=0.01)
    async with stage.running(), asyncio.timeout(30):
        await again.wait()


async def test_chores_run_when_they_ring_and_a_failure_is_not_the_end(stage: Stage) -> None:
    done = asyncio.Semaphore(0)
    calls = 0

    async def sweep() -> None:
        nonlocal calls
        calls += 1
        done.release()
        if calls == 1:
            raise RuntimeError("a bug in a chore")

    stage.chores = (Chore(name="sweep", every_s=600.0, run=sweep),)
    async with stage.running():
        await stage.alarms.until(lambda _: "sweep" in stage.alarms.intervals)
        for _ in range(2):
            stage.alarms.ring_every("sweep")
            async with asyncio.timeout(20):
                await done.acquire()
        assert stage.alarms.intervals["sweep"] == 600.0
    assert calls == 2


async def test_many_that_are_due_at_once_all_fire(stage: Stage) -> None:
    stage.settings = SchedulerSettings(fires_at_once=8)
    task = await stage.world.task(name="shared")
    made = [await stage.schedule(name=f"s{number}", every_s=20.0, task=task) for number in range(50)]
    async with stage.running():
        await stage.alarms.until(lambda armed: len(armed) == 50)
        stage.world.clock.advance(20.0)
        for schedule in made[1:]:
            stage.alarms.ring(schedule.id)
        await stage.fire(made[0])
        await stage.alarms.until(lambda armed: len(armed) == 50)
    assert len(await stage.runs()) == 50
