"""Limits on concurrent runs: exact under races, checked when a run is born and again when it is offered."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from banksman.v1 import limit_pb2, project_pb2, run_pb2, schedule_pb2, task_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tests.fakes.runner import exit_record
from tests.fakes.server import spec
from tests.waiting import wait_for_async

REFUSED, INVALID = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
QUEUED, SKIPPED, CANCELLED = run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_SKIPPED, run_pb2.RUN_STATE_CANCELLED


def at_most(limit, on_limit="QUEUE", key="", scope="TASK"):
    return limit_pb2.ConcurrencyLimit(
        limit=limit,
        key=key,
        scope=limit_pb2.LimitScope.Value(f"LIMIT_SCOPE_{scope}"),
        on_limit=limit_pb2.OnLimit.Value(f"ON_LIMIT_{on_limit}"),
    )


async def task(doors, *limits, name="build", **words):
    what = spec("true")
    what.concurrency.extend(limits)
    wanted = task_pb2.Task(name=name, spec=what, is_public=True, **words)
    return await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=wanted))


async def run(doors, name="build", **variables):
    options = run_pb2.RunOptions()
    for key, value in variables.items():
        options.variables[key].string_value = value
    return await doors.tasks.RunTask(task_pb2.RunTaskRequest(task=name, options=options))


async def get(doors, found):
    return await doors.runs.GetRun(run_pb2.GetRunRequest(run=found.id))


async def cancel(doors, found, **words):
    return await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=found.id, **words))


async def limit_project(doors, limit):
    wanted = project_pb2.Project(name="default", concurrency=limit)
    request = project_pb2.UpdateProjectRequest(project=wanted, update_mask=FieldMask(paths=["concurrency"]))
    return await doors.projects.UpdateProject(request)


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


async def outcome(call):
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        return error.code()


async def test_of_fifty_at_once_exactly_three_are_born(doors):
    await task(doors, at_most(3, "REJECT"))
    found = await asyncio.gather(*(outcome(run(doors)) for _ in range(50)))
    born = [each for each in found if isinstance(each, run_pb2.Run)]
    assert len(born) == 3
    assert found.count(REFUSED) == 47
    code, details = await refused(run(doors))
    assert (code, min(each.id for each in born) in details) == (REFUSED, True)
    await cancel(doors, born[0])
    assert (await run(doors)).state == QUEUED
    assert (await refused(run(doors)))[0] == REFUSED


async def test_dropped_runs_are_born_skipped(doors):
    await task(doors, at_most(1, "DROP_NEW"))
    first = await run(doors)
    second = await run(doors)
    assert (first.state, second.state, second.reason) == (QUEUED, SKIPPED, run_pb2.REASON_LIMIT_REACHED)
    assert first.id in second.error_message


async def test_a_newer_run_supersedes_the_oldest(doors):
    await task(doors, at_most(2, "CANCEL_RUNNING"))
    made = [await run(doors) for _ in range(3)]
    seen = [await get(doors, each) for each in made]
    assert [each.state for each in seen] == [CANCELLED, QUEUED, QUEUED]
    assert seen[0].reason == run_pb2.REASON_SUPERSEDED


async def test_a_superseded_run_gives_its_place_when_it_has_ended(server, doors):
    await task(doors, at_most(1, "CANCEL_RUNNING"))
    runner = await server.runner()
    async with runner.session() as (stream, _):
        first = await run(doors)
        key = (await stream.accept()).key
        assert key.run_id == first.id
        second = await run(doors)
        await stream.expect("stop")
        assert (await get(doors, second)).state == QUEUED
        await stream.exited(key, exit_record(143))
        assert (await stream.expect("offer")).key.run_id == second.id
    assert (await get(doors, first)).reason == run_pb2.REASON_SUPERSEDED


async def test_a_refused_firing_is_skipped(doors):
    await task(doors, at_most(1, "REJECT"))
    held = await run(doors)
    wanted = schedule_pb2.Schedule(name="nightly", task_id="build", cron="0 3 * * *")
    made = await doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=wanted))
    fired = await doors.schedules.TriggerSchedule(schedule_pb2.TriggerScheduleRequest(schedule=made.id))
    assert (fired.state, fired.reason) == (SKIPPED, run_pb2.REASON_LIMIT_REACHED)
    assert held.id in fired.error_message


async def test_offers_never_pass_the_limit_and_the_others_say_why(server, doors):
    await task(doors, at_most(2, key="{{ branch }}"))
    runner = await server.runner()
    async with runner.session() as (stream, _):
        made = [await run(doors, branch="main") for _ in range(4)]
        other = await run(doors, branch="side")
        offered = {(await stream.accept()).key.run_id for _ in range(3)}
        assert offered == {made[0].id, made[1].id, other.id}

        async def explained():
            why = (await get(doors, made[3])).waiting_because
            return f"run {made[0].id} holds a place" in why and "key main of task build" in why

        await wait_for_async(explained, what="the reason")
        await cancel(doors, made[0], force=True)
        assert (await stream.expect("offer")).key.run_id == made[2].id
        assert (await get(doors, made[3])).state == QUEUED


async def test_limits_hold_after_a_restart(server, doors):
    await task(doors, at_most(1))
    first = await run(doors)
    runner = await server.runner()
    async with runner.session() as (stream, _):
        assert (await stream.accept()).key.run_id == first.id
    await server.stop()
    await server.start()
    doors = server.doors()
    second = await run(doors)
    async with runner.session() as (stream, _):
        await stream.heartbeat(1)

        async def held():
            return f"run {first.id} holds it" in (await get(doors, second)).waiting_because

        await wait_for_async(held, what="the reason")
        await cancel(doors, first, force=True)
        assert (await stream.expect("offer")).key.run_id == second.id


async def test_a_projects_limit_counts_all_its_runs_and_changes_at_once(server, doors):
    await limit_project(doors, limit_pb2.ConcurrencyLimit(limit=1))
    runner = await server.runner()
    async with runner.session() as (stream, _):
        first, second = await doors.submit(), await doors.submit()
        assert (await stream.accept()).key.run_id == first.id

        async def held():
            return "the whole project" in (await get(doors, second)).waiting_because

        await wait_for_async(held, what="the reason")
        await limit_project(doors, None)
        assert (await stream.expect("offer")).key.run_id == second.id


async def test_a_project_may_refuse(doors):
    await limit_project(doors, limit_pb2.ConcurrencyLimit(limit=2, on_limit=limit_pb2.ON_LIMIT_REJECT))
    first = await doors.submit()
    await doors.submit()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.submit()
    assert caught.value.code() == REFUSED
    assert first.id in caught.value.details()


@pytest.mark.parametrize(
    ("limits", "fields"),
    [
        ([at_most(1)] * 1, ""),
        ([at_most(10_000, key="k" * 255)], ""),
        ([at_most(1, key=str(number)) for number in range(4)], ""),
        ([at_most(0)], "task.spec.concurrency[0].limit"),
        ([at_most(10_001)], "task.spec.concurrency[0].limit"),
        ([at_most(1, key="k" * 256)], "task.spec.concurrency[0].key"),
        ([at_most(1, key=str(number)) for number in range(5)], "task.spec.concurrency"),
        ([at_most(1), at_most(2)], "task.spec.concurrency[1]"),
        ([at_most(1, key="a\nb")], "task.spec.concurrency[0].key"),
    ],
)
async def test_bounds(doors, limits, fields):
    found = await outcome(task(doors, *limits))
    if not fields:
        assert found.name == "build"
        return
    code, details = await refused(task(doors, *limits))
    assert (code, fields in details) == (INVALID, True), details


async def test_a_key_shows_nothing_sensitive_and_is_bounded_when_rendered(doors):
    declared = [task_pb2.Variable(name="secret", sensitive=True), task_pb2.Variable(name="branch")]
    await task(doors, at_most(1, key="{{ secret }}"), variables=declared)
    code, details = await refused(run(doors, secret="a-long-secret"))
    assert (code, "sensitive" in details, "a-long" in details) == (INVALID, True, False)
    await task(doors, at_most(1, key="{{ branch }}"), name="other", variables=declared)
    assert (await run(doors, "other", branch="b" * 1_024)).state == QUEUED
    assert (await refused(run(doors, "other", branch="b" * 1_025)))[0] == INVALID


async def test_a_run_without_a_task_has_only_limits_of_the_project(doors):
    what = spec("true")
    what.concurrency.append(at_most(1, "REJECT"))
    request = run_pb2.CreateRunRequest(spec=what)
    code, details = await refused(doors.runs.CreateRun(request))
    assert (code, "spec.concurrency[0].scope" in details) == (INVALID, True)
    what.concurrency[0].CopyFrom(at_most(1, "REJECT", key="deploy", scope="PROJECT"))
    request = run_pb2.CreateRunRequest(spec=what)
    first = await doors.runs.CreateRun(request)
    code, details = await refused(doors.runs.CreateRun(request))
    assert (code, first.id in details) == (REFUSED, True)


async def test_a_run_that_waits_for_its_retry_holds_no_place(server, doors):
    what = spec("false")
    what.concurrency.append(at_most(1))
    what.retry.max_attempts = 2
    what.retry.backoff.CopyFrom(Duration(seconds=60))
    await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task_pb2.Task(name="build", spec=what)))
    runner = await server.runner()
    async with runner.session() as (stream, _):
        first, second = await run(doors), await run(doors)
        key = (await stream.accept()).key
        assert key.run_id == first.id
        await stream.exited(key, exit_record(1))
        assert (await stream.expect("offer")).key.run_id == second.id
        assert (await get(doors, first)).state == QUEUED


async def test_keys_take_turns(server, doors):
    await task(doors, at_most(1, key="{{ key }}"), variables=[task_pb2.Variable(name="key")])
    runner = await server.runner()
    async with runner.session() as (stream, _):
        made = [await run(doors, key=key) for key in ("a", "a", "b", "c")]
        first = [(await stream.accept()).key.run_id for _ in range(3)]
        assert first == [made[0].id, made[2].id, made[3].id]
