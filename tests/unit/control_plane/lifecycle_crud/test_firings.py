"""What firing does: overlaps, catch-up, values, failures, backfills, and intervals after a step of the clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from control_plane.domain.errors import FailedPrecondition, InvalidArgument
from control_plane.domain.ids import RunId
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run, RunState, TriggerType
from control_plane.domain.schedule import CatchUpPolicy, FiringOrigin, OverlapPolicy, Schedule, ScheduleDraft
from control_plane.domain.spec import Command, RunSpec, Step
from control_plane.domain.stops import CancelOrder
from control_plane.domain.variables import Variable
from control_plane.lifecycle import backfills, clocks, housekeeping, paces, runs, schedules, tasks
from control_plane.lifecycle.backfills import Backfilled, Range
from control_plane.lifecycle.schedules import ScheduleChange, Window
from control_plane.lifecycle.tasks import NewTask, TaskChange
from control_plane.storage import reads
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage
from tests.unit.control_plane.lifecycle_crud.test_schedules import MINUTELY, all_runs, fire_due, stored

TEMPLATE = RunSpec(steps=(Step(command=Command(argv=("echo", "{{ stage }}"))),))


async def made(stage: Stage, spec: RunSpec = SPEC, declared: tuple[Variable, ...] = (), **draft: object) -> Schedule:
    new = NewTask(project_id=stage.default.id, name="build", spec=spec, variables=declared)
    await tasks.create(stage.house, stage.caller, new)
    return await schedules.create(stage.house, stage.caller, stage.default.id, replace(MINUTELY, **draft))  # type: ignore[arg-type]


async def ahead(stage: Stage, run: Run) -> RunId | None:
    return await stage.house.database.read(partial(reads.run_ahead, run_id=run.id))


async def fired(stage: Stage, schedule: Schedule, count: int) -> list[Run]:
    found = [await fire_due(stage, schedule) for _ in range(count)]
    assert all(found)
    return [run for run in found if run is not None]


async def test_queue_all_lets_each_wait_for_those_before_it(stage: Stage) -> None:
    first, second, third = await fired(stage, await made(stage, overlap=OverlapPolicy.QUEUE_ALL), 3)
    assert [run.state for run in await all_runs(stage)] == [RunState.QUEUED] * 3
    assert (await ahead(stage, first), await ahead(stage, second)) == (None, first.id)
    assert await ahead(stage, third) in (first.id, second.id)
    await runs.cancel(stage.house, stage.caller, first.id, CancelOrder())
    assert (await ahead(stage, second), await ahead(stage, third)) == (None, second.id)


async def test_queue_one_lets_one_wait(stage: Stage) -> None:
    schedule = await made(stage, overlap=OverlapPolicy.QUEUE_ONE)
    first, second, third = await fired(stage, schedule, 3)
    assert [run.state for run in (first, second, third)] == [RunState.QUEUED, RunState.QUEUED, RunState.SKIPPED]
    assert third.reason is Reason.OVERLAP
    assert await ahead(stage, second) == first.id
    await runs.cancel(stage.house, stage.caller, first.id, CancelOrder())
    (fourth,) = await fired(stage, schedule, 1)
    assert (fourth.state, await ahead(stage, fourth)) == (RunState.QUEUED, second.id)


async def test_cancel_running_supersedes(stage: Stage) -> None:
    first, second = await fired(stage, await made(stage, overlap=OverlapPolicy.CANCEL_RUNNING), 2)
    old = (await all_runs(stage))[0]
    assert (old.id, old.state, old.reason) == (first.id, RunState.CANCELLED, Reason.SUPERSEDED)
    assert (second.state, await ahead(stage, second)) == (RunState.QUEUED, None)


async def test_very_many_runs_are_superseded(stage: Stage) -> None:
    schedule = await made(stage)
    await fired(stage, schedule, 120)
    await schedules.update(stage.house, schedule.id, ScheduleChange(overlap=OverlapPolicy.CANCEL_RUNNING))
    (newest,) = await fired(stage, schedule, 1)
    assert [run.id for run in await all_runs(stage) if run.is_active] == [newest.id]


async def test_an_inactive_task_supersedes_nothing(stage: Stage) -> None:
    schedule = await made(stage, overlap=OverlapPolicy.CANCEL_RUNNING)
    (first,) = await fired(stage, schedule, 1)
    await tasks.update(stage.house, schedule.task_id, TaskChange(active=False))
    (second,) = await fired(stage, schedule, 1)
    assert (second.state, second.reason) == (RunState.SKIPPED, Reason.TASK_INACTIVE)
    assert [run.id for run in await all_runs(stage) if run.is_active] == [first.id]


async def test_all_that_were_missed_fire_up_to_a_number(stage: Stage) -> None:
    schedule = await made(stage, catch_up=CatchUpPolicy.ALL, max_catch_up=3)
    stage.clock.advance(10 * 60 + 30)
    due = schedule.next_fire_at
    while due is not None and due <= stage.clock.now():
        await schedules.fire(stage.house, schedule.id, due, FiringOrigin.SCHEDULE)
        due = (await stored(stage, schedule)).next_fire_at
    # Three that were missed, and the one that is merely late.
    times = [run.scheduled_time for run in await all_runs(stage)]
    assert times == [schedule.created_at + timedelta(minutes=number) for number in (7, 8, 9, 10)]
    listed = await stage.house.database.read(partial(reads.firings, schedule_id=schedule.id, limit=99))
    assert [(each.scheduled_time, each.missed) for each in listed if each.missed] == [
        (schedule.created_at + timedelta(minutes=1), 6)
    ]


async def test_values_of_a_schedule_reach_its_runs(stage: Stage) -> None:
    declared = (Variable(name="stage", required=True),)
    schedule = await made(stage, TEMPLATE, declared, variables={"stage": "test"})
    (run,) = await fired(stage, schedule, 1)
    assert [(each.name, each.value) for each in run.variables or ()] == [("stage", "test")]
    with pytest.raises(InvalidArgument) as caught:
        await schedules.update(stage.house, schedule.id, ScheduleChange(name="", variables={}, jitter_s=-1.0))
    assert [violation.field for violation in caught.value.violations] == [
        *("schedule.name", "schedule.jitter", "schedule.variables[stage]"),
    ]
    changed = await schedules.update(stage.house, schedule.id, ScheduleChange(variables={"stage": "live"}))
    assert changed.variables == {"stage": "live"}


async def test_values_that_no_run_could_have_are_refused_and_nothing_is_stored(stage: Stage) -> None:
    declared = (Variable(name="stage"), Variable(name="password", sensitive=True))
    for index, given in enumerate(({"password": "correct horse"}, {"1x": ""}, {"STAGE": "x"}, {"stage": "x" * 65_537})):
        draft = ScheduleDraft(name="n", every_s=1.0, variables=given)
        new = NewTask(
            project_id=stage.default.id, name=f"t{index}", spec=TEMPLATE, variables=declared, schedules=(draft,)
        )
        with pytest.raises(InvalidArgument) as caught:
            await tasks.create(stage.house, stage.caller, new)
        assert [violation.field for violation in caught.value.violations] == [
            f"task.schedules[0].variables[{next(iter(given))}]"
        ]
        assert (
            await stage.house.database.read(partial(reads.find_task, project_id=stage.default.id, id_or_name=new.name))
            is None
        )


async def expire(stage: Stage) -> None:
    """Every queued run has waited too long."""
    stage.clock.advance(2)
    await clocks.tick(stage.house)


async def test_it_pauses_itself_when_its_runs_fail_in_a_row(stage: Stage) -> None:
    schedule = await made(stage, replace(SPEC, queue_timeout_s=1.0), pause_after_failures=2)
    for failures in (1, 2):
        (run,) = await fired(stage, schedule, 1)
        await expire(stage)
        now = await stored(stage, schedule)
        assert (now.failures, now.paused) == (failures, failures == 2)
    assert run.id in now.pause_note
    assert now.next_fire_at is None
    resumed = await schedules.resume(stage.house, schedule.id)
    assert (resumed.failures, resumed.paused) == (0, False)


async def test_neither_backfills_nor_what_was_cancelled_pauses_it(stage: Stage) -> None:
    schedule = await made(stage, replace(SPEC, queue_timeout_s=1.0), pause_after_failures=1)
    (run,) = await fired(stage, schedule, 1)
    await runs.cancel(stage.house, stage.caller, run.id, CancelOrder())
    await schedules.trigger(stage.house, stage.caller, schedule.id)
    await backfill(stage, schedule, schedule.created_at - timedelta(minutes=5), schedule.created_at)
    await expire(stage)
    now = await stored(stage, schedule)
    assert (now.failures, now.paused) == (0, False)


async def backfill(stage: Stage, schedule: Schedule, start: datetime, end: datetime, **more: object) -> Backfilled:
    asked = Range(start_at=start, end_at=end, **more)  # type: ignore[arg-type]
    return await backfills.backfill(stage.house, stage.caller, schedule.id, asked)


async def test_a_backfill_fires_what_has_not_fired(stage: Stage) -> None:
    schedule = await made(stage)
    await fired(stage, schedule, 2)
    born = schedule.created_at
    stage.clock.advance(600)
    whole = (born - timedelta(minutes=2), born + timedelta(minutes=4))
    wanted = tuple(born + timedelta(minutes=number) for number in (-2, -1, 0, 3))
    dry = await backfill(stage, schedule, *whole, dry_run=True)
    assert (dry.times, dry.run_ids, dry.fired_before) == (wanted, (), 2)
    assert len(await all_runs(stage)) == 2
    done = await backfill(stage, schedule, *whole)
    assert (done.times, len(done.run_ids), done.fired_before) == (wanted, 4, 2)
    fresh = [run for run in await all_runs(stage) if run.trigger_type is TriggerType.BACKFILL]
    assert [run.scheduled_time for run in fresh] == list(wanted)
    assert await ahead(stage, fresh[0]) is not None, "one after another, and behind what is active"
    again = await backfill(stage, schedule, *whole)
    assert (again.times, again.run_ids, again.fired_before) == ((), (), 6)
    # Nor does the schedule fire such an instant: it is due still, and late.
    due = (await stored(stage, schedule)).next_fire_at
    assert due == born + timedelta(minutes=3)
    await schedules.fire(stage.house, schedule.id, due, FiringOrigin.SCHEDULE)
    assert len([run for run in await all_runs(stage) if run.scheduled_time == due]) == 1


@pytest.mark.parametrize(("count", "fits"), [(1_000, True), (1_001, False)])
async def test_a_thousand_are_fired_in_one_call(stage: Stage, count: int, fits: bool) -> None:
    schedule = await made(stage)
    end = schedule.created_at
    start = end - timedelta(minutes=count)
    if fits:
        done = await backfill(stage, schedule, start, end, overlap=OverlapPolicy.ALLOW)
        assert len(set(done.run_ids)) == count
    else:
        with pytest.raises(FailedPrecondition):
            await backfill(stage, schedule, start, end)
        assert await all_runs(stage) == ()


async def test_a_range_that_makes_no_sense_is_refused(stage: Stage) -> None:
    schedule = await made(stage)
    now = stage.clock.now()
    with pytest.raises(InvalidArgument) as caught:
        await backfill(stage, schedule, now + timedelta(2), now + timedelta(1), overlap=OverlapPolicy.SKIP)
    assert [violation.field for violation in caught.value.violations] == ["end_at", "start_at", "overlap"]
    with pytest.raises(InvalidArgument):
        await backfill(stage, schedule, datetime(1, 1, 1, tzinfo=UTC), now)
    await tasks.update(stage.house, schedule.task_id, TaskChange(active=False))
    with pytest.raises(FailedPrecondition):
        await backfill(stage, schedule, now - timedelta(hours=1), now)
    assert await all_runs(stage) == ()


async def test_what_has_been_forgotten_is_not_fired_again(stage: Stage) -> None:
    schedule = await made(stage)
    (run,) = await fired(stage, schedule, 1)
    await runs.cancel(stage.house, stage.caller, run.id, CancelOrder())
    stage.clock.advance(91 * 86_400)
    await housekeeping.sweep(stage.house, housekeeping.Keep())
    last = (await stored(stage, schedule)).forgotten_to
    assert last == run.scheduled_time
    with pytest.raises(InvalidArgument) as caught:
        await backfill(stage, schedule, last, last + timedelta(minutes=5))
    assert [violation.field for violation in caught.value.violations] == ["start_at"]
    done = await backfill(stage, schedule, last + timedelta(seconds=1), last + timedelta(minutes=5))
    assert len(done.run_ids) == 4


async def test_windows_and_jitter_move_what_is_next(stage: Stage) -> None:
    schedule = await made(stage)
    window = Window(start_at=schedule.created_at + timedelta(hours=1))
    both = frozenset({"start_at", "end_at"})
    later = await schedules.update(stage.house, schedule.id, ScheduleChange(window=window, window_fields=both))
    assert later.next_fire_at == window.start_at
    shaken = await schedules.update(stage.house, schedule.id, ScheduleChange(jitter_s=3_000.0))
    assert shaken.next_fire_at == later.next_fire_at + shaken.offset
    assert shaken.offset > timedelta(0)
    (run,) = await fired(stage, schedule, 1)
    assert run.scheduled_time == window.start_at, "the instant that is meant, not when it came"
    open_again = ScheduleChange(window=Window(), window_fields=both, jitter_s=0.0)
    assert (await schedules.update(stage.house, schedule.id, open_again)).start_at is None


async def test_a_clock_that_is_set_back_silences_no_interval(stage: Stage) -> None:
    schedule = await made(stage)
    await fired(stage, schedule, 90)
    stage.clock.step_wall(-3_600)
    assert await paces.keep_pace(stage.house) == 1
    assert await paces.keep_pace(stage.house) == 0
    due = (await stored(stage, schedule)).next_fire_at
    assert due is not None
    assert due - stage.clock.now() <= timedelta(seconds=60)
    await fired(stage, schedule, 70)
    times = [run.scheduled_time for run in await all_runs(stage)]
    assert len(set(times)) == len(times) == 160


async def test_paused_schedules_can_be_made(stage: Stage) -> None:
    schedule = await made(stage, paused=True, pause_note="not yet")
    assert (schedule.paused, schedule.pause_note, schedule.next_fire_at) == (True, "not yet", None)
