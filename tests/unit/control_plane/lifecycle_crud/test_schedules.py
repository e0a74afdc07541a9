"""Schedules: valid or refused, paused or not, and every instant at most once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from control_plane.domain.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from control_plane.domain.history import RunEventType
from control_plane.domain.ids import RunId, ScheduleId
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run, RunState, TriggerType
from control_plane.domain.schedule import CatchUpPolicy, FiringOrigin, OverlapPolicy, Schedule, ScheduleDraft
from control_plane.lifecycle import runs, schedules, tasks
from control_plane.lifecycle.schedules import ScheduleChange, When
from control_plane.lifecycle.tasks import NewTask, TaskChange
from control_plane.storage import reads
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage

NIGHTLY = ScheduleDraft(name="nightly", task="build", cron="0 3 * * *", time_zone="Europe/Berlin")
MINUTELY = ScheduleDraft(name="minutely", task="build", every_s=60.0, overlap=OverlapPolicy.ALLOW)


async def made(stage: Stage, draft: ScheduleDraft = MINUTELY) -> Schedule:
    await tasks.create(stage.house, stage.caller, NewTask(project_id=stage.default.id, name="build", spec=SPEC))
    return await schedules.create(stage.house, stage.caller, stage.default.id, draft)


async def stored(stage: Stage, schedule: Schedule) -> Schedule:
    found = await stage.house.database.read(partial(reads.schedule, schedule_id=schedule.id))
    assert found is not None
    return found


async def fire_due(stage: Stage, schedule: Schedule) -> Run | None:
    """As the scheduler does: at the stored instant."""
    now = await stored(stage, schedule)
    if now.next_fire_at is None:
        return None
    wait_s = (now.next_fire_at - stage.clock.now()).total_seconds()
    stage.clock.advance(max(0.0, wait_s))
    return await schedules.fire(stage.house, schedule.id, now.next_fire_at, FiringOrigin.SCHEDULE)


async def all_runs(stage: Stage) -> tuple[Run, ...]:
    request = reads.PageRequest(page_size=1000)
    page = await stage.house.database.read(
        lambda conn: reads.list_runs(conn, stage.default.id, reads.RunFilter(), request)
    )
    return page.items[::-1]


async def test_what_was_made_is_stored_with_its_next_instant(stage: Stage) -> None:
    schedule = await made(stage, NIGHTLY)
    assert schedule == await stored(stage, schedule)
    assert schedule.next_fire_at == datetime(2030, 1, 1, 2, tzinfo=UTC)
    assert schedule.task_name == "build"
    assert await stage.house.database.read(
        partial(reads.due_schedules, before=datetime(2030, 1, 1, 2, tzinfo=UTC), limit=9)
    ) == {schedule.id: schedule.next_fire_at}
    assert (
        await stage.house.database.read(
            partial(reads.due_schedules, before=datetime(2030, 1, 1, 1, tzinfo=UTC), limit=9)
        )
        == {}
    )


async def test_every_mistake_is_named(stage: Stage) -> None:
    bad = ScheduleDraft(name="", task="", cron="61 * * * *", time_zone="Mars/Olympus")
    with pytest.raises(InvalidArgument) as caught:
        await schedules.create(stage.house, stage.caller, stage.default.id, bad)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["schedule.name", "schedule.task_id", "schedule.cron", "schedule.time_zone"]
    both = replace(NIGHTLY, every_s=5.0)
    with pytest.raises(InvalidArgument):
        await schedules.create(stage.house, stage.caller, stage.default.id, both)
    with pytest.raises(NotFound):
        await schedules.create(stage.house, stage.caller, stage.default.id, NIGHTLY)


async def test_names_are_taken_once(stage: Stage) -> None:
    await made(stage)
    other = await schedules.create(stage.house, stage.caller, stage.default.id, NIGHTLY)
    with pytest.raises(AlreadyExists):
        await schedules.create(stage.house, stage.caller, stage.default.id, MINUTELY)
    with pytest.raises(AlreadyExists):
        await schedules.update(stage.house, other.id, ScheduleChange(name="minutely"))


async def test_each_instant_makes_one_run(stage: Stage) -> None:
    schedule = await made(stage)
    for number in (1, 2, 3):
        run = await fire_due(stage, schedule)
        assert run is not None
        assert run.scheduled_time == schedule.created_at + timedelta(seconds=60 * number)
        assert (run.state, run.trigger_type, run.schedule_id) == (
            RunState.QUEUED,
            TriggerType.SCHEDULED,
            schedule.id,
        )
        now = await stored(stage, schedule)
        assert (now.last_run_id, now.last_fired_at, now.etag) == (run.id, stage.clock.now(), schedule.etag)
    assert len(await all_runs(stage)) == 3


async def test_two_schedulers_fire_an_instant_once(stage: Stage) -> None:
    schedule = await made(stage)
    assert schedule.next_fire_at is not None
    stage.clock.advance(60)
    outcomes = await asyncio.gather(
        *(schedules.fire(stage.house, schedule.id, schedule.next_fire_at, FiringOrigin.SCHEDULE) for _ in range(20))
    )
    assert len([run for run in outcomes if run is not None]) == 1
    assert len(await all_runs(stage)) == 1


async def test_a_clock_that_is_set_back_fires_nothing_twice(stage: Stage) -> None:
    schedule = await made(stage)
    await fire_due(stage, schedule)
    stage.clock.step_wall(-30)
    # Somebody moves the schedule back to instants that have fired.
    await schedules.update(stage.house, schedule.id, ScheduleChange(when=When(every_s=30.0)))
    again = await schedules.update(stage.house, schedule.id, ScheduleChange(when=When(every_s=60.0)))
    assert again.next_fire_at == schedule.next_fire_at
    stage.clock.step_wall(30)
    fired = await schedules.fire(stage.house, schedule.id, again.next_fire_at, FiringOrigin.SCHEDULE)  # type: ignore[arg-type]
    assert len(await all_runs(stage)) == 1
    assert fired is not None
    assert fired.id == (await all_runs(stage))[0].id
    now = await stored(stage, schedule)
    assert now.next_fire_at == schedule.created_at + timedelta(seconds=120)


async def test_an_active_run_lets_the_next_one_be_skipped(stage: Stage) -> None:
    schedule = await made(stage, replace(MINUTELY, overlap=OverlapPolicy.SKIP))
    first = await fire_due(stage, schedule)
    second = await fire_due(stage, schedule)
    assert first is not None
    assert second is not None
    assert (second.state, second.reason) == (RunState.SKIPPED, Reason.OVERLAP)
    assert second.completed_at is not None
    assert second.settled_at is not None
    events = await stage.house.database.read(partial(reads.list_events, run_id=second.id, request=reads.PageRequest()))
    assert RunEventType.SKIPPED in [event.type for event in events.items]
    await runs.cancel(stage.house, stage.caller, first.id, runs.CancelOrder())
    third = await fire_due(stage, schedule)
    assert third is not None
    assert third.state is RunState.QUEUED


async def test_an_inactive_task_is_skipped(stage: Stage) -> None:
    schedule = await made(stage)
    await tasks.update(stage.house, schedule.task_id, TaskChange(active=False))
    run = await fire_due(stage, schedule)
    assert run is not None
    assert (run.state, run.reason) == (RunState.SKIPPED, Reason.TASK_INACTIVE)


@pytest.mark.parametrize(("catch_up", "fired"), [(CatchUpPolicy.SKIP, 0), (CatchUpPolicy.ONE, 1)])
async def test_missed_instants_follow_the_policy_and_leave_a_row(
    stage: Stage, catch_up: CatchUpPolicy, fired: int
) -> None:
    schedule = await made(stage, replace(NIGHTLY, catch_up=catch_up, time_zone="UTC"))
    due = schedule.next_fire_at
    assert due is not None
    stage.clock.advance(4 * 86_400)
    run = await schedules.fire(stage.house, schedule.id, due, FiringOrigin.SCHEDULE)
    assert (run is not None) == bool(fired)
    now = await stored(stage, schedule)
    assert now.next_fire_at == due + timedelta(days=4)
    firings = await stage.house.database.read(partial(reads.firings, schedule_id=schedule.id, limit=9))
    passed = [firing for firing in firings if firing.missed]
    assert [(firing.scheduled_time, firing.missed, firing.run_id) for firing in passed] == [(due, 4 - fired, None)]
    if run is not None:
        assert run.scheduled_time == due + timedelta(days=3)


async def test_once_fires_once(stage: Stage) -> None:
    at = stage.clock.now() + timedelta(hours=1)
    schedule = await made(stage, ScheduleDraft(name="once", task="build", once=at))
    run = await fire_due(stage, schedule)
    assert run is not None
    assert run.scheduled_time == at
    assert (await stored(stage, schedule)).next_fire_at is None
    # Another name is no new time: that the instant is past does not matter.
    renamed = await schedules.update(stage.house, schedule.id, ScheduleChange(name="done"))
    assert renamed.next_fire_at is None
    await schedules.pause(stage.house, schedule.id)
    with pytest.raises(FailedPrecondition):
        await schedules.resume(stage.house, schedule.id)


async def test_a_paused_schedule_does_not_fire(stage: Stage) -> None:
    schedule = await made(stage)
    paused = await schedules.pause(stage.house, schedule.id, note="holiday")
    assert (paused.paused, paused.pause_note, paused.next_fire_at) == (True, "holiday", None)
    stage.clock.advance(600)
    assert schedule.next_fire_at is not None
    assert await schedules.fire(stage.house, schedule.id, schedule.next_fire_at, FiringOrigin.SCHEDULE) is None
    assert (
        await stage.house.database.read(
            partial(reads.due_schedules, before=stage.clock.now() + timedelta(days=1), limit=9)
        )
        == {}
    )
    moved = await schedules.update(stage.house, schedule.id, ScheduleChange(when=When(every_s=30.0)))
    assert moved.next_fire_at is None
    resumed = await schedules.resume(stage.house, schedule.id)
    assert (resumed.paused, resumed.pause_note) == (False, "")
    assert resumed.next_fire_at == schedule.created_at + timedelta(seconds=630)
    assert await schedules.resume(stage.house, schedule.id) == resumed
    with pytest.raises(InvalidArgument):
        await schedules.pause(stage.house, schedule.id, note="x" * 1025)


async def test_an_update_is_guarded_and_checked(stage: Stage) -> None:
    schedule = await made(stage)
    change = ScheduleChange(when=When(cron="@daily"), time_zone="Asia/Tokyo", etag=schedule.etag)
    changed = await schedules.update(stage.house, schedule.id, change)
    assert (changed.cron, changed.every_s) == ("@daily", None)
    assert changed.next_fire_at == datetime(2030, 1, 1, 15, tzinfo=UTC)
    with pytest.raises(Aborted):
        await schedules.update(stage.house, schedule.id, change)
    with pytest.raises(InvalidArgument) as caught:
        await schedules.update(stage.house, schedule.id, ScheduleChange(name="", when=When(cron="bad")))
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["schedule.name", "schedule.cron"]
    with pytest.raises(Aborted):
        await schedules.delete(stage.house, schedule.id, etag="99")
    await schedules.delete(stage.house, schedule.id, etag=changed.etag)
    for verb in (
        schedules.update(stage.house, schedule.id, ScheduleChange()),
        schedules.delete(stage.house, schedule.id),
        schedules.pause(stage.house, schedule.id),
        schedules.resume(stage.house, schedule.id),
        schedules.trigger(stage.house, stage.caller, schedule.id),
    ):
        with pytest.raises(NotFound):
            await verb
    assert await schedules.fire(stage.house, schedule.id, stage.clock.now(), FiringOrigin.SCHEDULE) is None


async def test_trigger_makes_a_run_now(stage: Stage) -> None:
    schedule = await made(stage, NIGHTLY)
    await schedules.pause(stage.house, schedule.id)
    stage.clock.advance(1)
    run = await schedules.trigger(stage.house, stage.asking("r"), schedule.id)
    assert (run.trigger_type, run.scheduled_time, run.state) == (
        TriggerType.MANUAL,
        stage.clock.now(),
        RunState.QUEUED,
    )
    assert await schedules.trigger(stage.house, stage.asking("r"), schedule.id) == run
    stage.clock.advance(1)
    second = await schedules.trigger(stage.house, stage.caller, schedule.id)
    assert (second.state, second.reason) == (RunState.SKIPPED, Reason.OVERLAP)
    assert (await stored(stage, schedule)).last_run_id == second.id


async def test_backfill_takes_an_instant_of_its_own(stage: Stage) -> None:
    schedule = await made(stage)
    at = schedule.created_at - timedelta(days=1)
    first = await schedules.fire(stage.house, schedule.id, at, FiringOrigin.BACKFILL)
    again = await schedules.fire(stage.house, schedule.id, at, FiringOrigin.BACKFILL)
    assert first is not None
    assert again is not None
    assert first.id == again.id
    assert first.trigger_type is TriggerType.BACKFILL
    assert (await stored(stage, schedule)).next_fire_at == schedule.next_fire_at


async def test_a_firing_wakes_who_waits(stage: Stage) -> None:
    schedule = await made(stage)
    with stage.house.watch.subscribe("queue") as queue, stage.house.watch.subscribe("schedules") as changed:
        run = await fire_due(stage, schedule)
        assert await queue.wait(1)
        assert await changed.wait(1)
    assert run is not None
    assert RunId(run.id)
    assert ScheduleId(schedule.id)
