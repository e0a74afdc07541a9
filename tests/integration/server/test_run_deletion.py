"""Runs are deleted all or none; what made them stays used, and their runners are told to stop and to forget."""

from __future__ import annotations

import asyncio
import sqlite3

import grpc
import pytest
from banksman.v1 import log_pb2, run_pb2, schedule_pb2, task_pb2
from banksman.v1 import session_pb2 as pb

from control_plane.storage.sqlite import DATABASE_NAME
from control_plane.storage.writes.purge import PURGED_TABLES
from tests.fakes.runner import exit_record
from tests.fakes.server import log_digest, spec
from tests.integration.server.test_access import member
from tests.waiting import wait_for_async

NOT_FOUND, REFUSED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION


async def task(doors, name="build"):
    wanted = task_pb2.Task(name=name, spec=spec("true"), is_public=True)
    return await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=wanted))


async def run_task(doors, name="build", **words):
    return await doors.tasks.RunTask(task_pb2.RunTaskRequest(task=name, **words))


async def cancelled(doors, name="build", **words):
    """A run that is over without a runner."""
    run = await run_task(doors, name, **words)
    return await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run.id))


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


def delete_runs(doors, name="build"):
    return doors.tasks.DeleteTaskRuns(task_pb2.DeleteTaskRunsRequest(task=name))


def delete(doors, run):
    return doors.runs.DeleteRun(run_pb2.DeleteRunRequest(run=run))


async def listed(doors, name="build"):
    request = run_pb2.ListRunsRequest(task=name, include_total_size=True)
    answer = await doors.runs.ListRuns(request)
    assert answer.total_size == len(answer.runs)
    return [run.id for run in answer.runs]


def rows(server, run):
    """What the database holds of a run beside its own row and the word that it was deleted."""
    with sqlite3.connect(server.state / DATABASE_NAME) as raw:
        counts = {
            table.name: raw.execute(f"SELECT count(*) FROM {table.name} WHERE run_id = ?", (run,)).fetchone()[0]
            for table in PURGED_TABLES
        }
        events = [row[0] for row in raw.execute("SELECT type FROM run_events WHERE run_id = ?", (run,))]
        epoch = raw.execute("SELECT lease_epoch FROM runs WHERE id = ? AND purged_at IS NOT NULL", (run,)).fetchall()
    raw.close()
    return {name: count for name, count in counts.items() if count and name != "run_events"}, events, epoch


async def purged(server, run):
    async def gone():
        return rows(server, run)[1] == ["DELETED"]

    await wait_for_async(gone, what="the run was purged")


async def finished(server, doors, stream, data=b"hello\n"):
    """A run that a scripted runner has done, with its log stored and sealed."""
    run = await run_task(doors)
    key = (await stream.accept()).key
    await stream.started(key)
    await stream.chunk(key, 0, data)
    await stream.exited(key, exit_record(0, log=data, digest=log_digest(data)))
    await stream.expect("release")
    return await doors.settled(run.id), key


async def test_an_unknown_task_and_none_to_delete(doors):
    code, _ = await refused(delete_runs(doors))
    assert code is NOT_FOUND
    await task(doors)
    assert (await delete_runs(doors)).deleted_count == 0


async def test_one_active_run_keeps_them_all(doors):
    await task(doors)
    over = [(await cancelled(doors)).id for _ in range(3)]
    active = (await run_task(doors)).id
    code, text = await refused(delete_runs(doors))
    assert code is REFUSED
    assert active in text
    assert sorted(await listed(doors)) == sorted([*over, active])
    assert (await refused(delete(doors, active)))[0] is REFUSED
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=active))
    assert (await delete_runs(doors)).deleted_count == 4
    assert await listed(doors) == []


async def test_everything_of_a_deleted_run_goes_but_a_tombstone(server, doors):
    await task(doors)
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await finished(server, doors, stream)
    files = server.state / "logs"
    assert list(files.rglob(f"*{run.id}*"))
    assert (await delete_runs(doors)).deleted_count == 1
    for call in (
        doors.run(run.id),
        delete(doors, run.id),
        doors.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=run.id)),
        doors.runs.RetryRun(run_pb2.RetryRunRequest(run=run.id)),
        doors.run(run.id[-8:]),
        doors.run("@last"),
        doors.logs.ReadLogs(log_pb2.ReadLogsRequest(run=run.id)).read(),
    ):
        assert (await refused(call))[0] is NOT_FOUND
    await purged(server, run.id)
    left, events, epoch = rows(server, run.id)
    assert (left, events, epoch) == ({}, ["DELETED"], [(key.lease_epoch,)])
    assert not list(files.rglob(f"*{run.id}*"))


async def test_a_runner_that_still_lists_it_is_told_to_stop_and_then_to_forget(server, doors):
    await task(doors)
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run = await run_task(doors)
        key = (await stream.accept()).key
        await stream.started(key)
        await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
    # Ended by force, so its runner has it still.
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run.id, force=True))
    await delete(doors, run.id)
    await purged(server, run.id)
    held = pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_RUNNING)
    async with runner.session(inventory=[held]) as (stream, welcome):
        (verdict,) = welcome.verdicts
        assert verdict.kind == pb.VERDICT_KIND_FENCED
        over = pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_EXITED, exit=exit_record(1))
        (verdict,) = (await stream.heartbeat(1, over)).verdicts
        assert verdict.kind == pb.VERDICT_KIND_RELEASE
    assert rows(server, run.id)[1] == ["DELETED"]


async def test_what_made_it_makes_no_other_one(server, doors):
    await task(doors)
    run = await cancelled(doors, request_id="once")
    schedule = schedule_pb2.Schedule(name="hourly", task_id="build", cron="@hourly")
    made = await doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=schedule))
    fired = await doors.schedules.TriggerSchedule(schedule_pb2.TriggerScheduleRequest(schedule=made.id))
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=fired.id))
    assert (await delete_runs(doors)).deleted_count == 2
    await purged(server, fired.id)
    code, text = await refused(run_task(doors, request_id="once"))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "deleted" in text
    with sqlite3.connect(server.state / DATABASE_NAME) as raw:
        assert raw.execute("SELECT run_id FROM firings").fetchall() == [(fired.id,)]
    raw.close()
    assert run.id not in await listed(doors)


async def test_a_run_that_is_born_meanwhile_is_whole_or_keeps_all(doors):
    """RunTask and DeleteTaskRuns at once: whatever the order, no active run goes and no answer lies."""
    await task(doors)
    for _ in range(8):
        for _ in range(3):
            await cancelled(doors)
        before = set(await listed(doors))
        born, deleted = await asyncio.gather(
            asyncio.gather(*(run_task(doors) for _ in range(4))),
            asyncio.gather(*(delete_runs(doors) for _ in range(2)), return_exceptions=True),
        )
        ids = {run.id for run in born}
        after = set(await listed(doors))
        counts = [answer.deleted_count for answer in deleted if not isinstance(answer, grpc.aio.AioRpcError)]
        assert all(answer.code() is REFUSED for answer in deleted if isinstance(answer, grpc.aio.AioRpcError))
        assert ids <= after
        assert after - ids == (set() if sum(counts) else before)
        assert sum(counts) in (0, len(before))
        for run in ids:
            await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run))


async def test_watchers_learn_that_it_is_gone(server, doors):
    await task(doors)
    run = await cancelled(doors)
    stream = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(task="build"), timeout=20)
    await delete(doors, run.id)
    async for change in stream:
        if change.event.type == run_pb2.RUN_EVENT_TYPE_DELETED:
            assert (change.event.run_id, change.event.actor, change.HasField("run")) == (run.id, "admin", False)
            break
    stream.cancel()


async def test_a_purge_goes_on_after_a_restart(server, doors):
    await task(doors)
    runs = [(await cancelled(doors)).id for _ in range(120)]
    assert (await delete_runs(doors)).deleted_count == len(runs)
    await server.stop()
    await server.start()
    for run in runs:
        await purged(server, run)


async def test_many_are_cancelled_after_a_count(doors):
    await task(doors)
    queued = [(await run_task(doors)).id for _ in range(3)]
    other = (await doors.submit()).id

    def many(**words):
        return doors.runs.CancelRuns(run_pb2.CancelRunsRequest(**{"filter": "task = build", **words}))

    counted = await many(dry_run=True)
    assert (counted.matched_count, counted.cancelled_count, sorted(counted.run_ids)) == (3, 0, sorted(queued))
    code, text = await refused(many(expected_count=2))
    assert code is REFUSED
    assert "3 active runs match" in text
    code, text = await refused(many(filter="", note="x" * 1025, grace={"seconds": -1}))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert all(field in text for field in ("filter", "expected_count", "note", "grace"))
    assert all([(await doors.run(run)).is_active for run in queued])
    done = await many(expected_count=3, note="wrong branch")
    assert (done.matched_count, done.cancelled_count) == (3, 3)
    assert {(await doors.run(run)).cancel_note for run in queued} == {"wrong branch"}
    assert (await doors.run(other)).is_active
    assert (await many(expected_count=0)).matched_count == 0


async def read_on(stream):
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_who_waits_for_its_log_learns_that_it_is_gone(server, doors):
    await task(doors)
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run = await run_task(doors)
        key = (await stream.accept()).key
        await stream.started(key)
        await stream.exited(key, exit_record(0, log=b"never sent", digest="0" * 64))
        await doors.until(run.id, run_pb2.RUN_STATE_SUCCEEDED)
        request = run_pb2.WaitRunRequest(run=run.id, wait_for=run_pb2.WAIT_FOR_SETTLED)
        following = doors.logs.ReadLogs(log_pb2.ReadLogsRequest(run=run.id, follow=True), timeout=20)
        await following.read()
        waiting = asyncio.ensure_future(refused(doors.runs.WaitRun(request, timeout=20)))
        await delete(doors, run.id)
        assert (await waiting)[0] is NOT_FOUND
        assert (await refused(read_on(following)))[0] is NOT_FOUND
        over = pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_EXITED, exit=exit_record(0))
        await purged(server, run.id)
        (verdict,) = (await stream.heartbeat(1, over)).verdicts
        assert verdict.kind == pb.VERDICT_KIND_RELEASE


async def test_the_runs_of_a_deleted_task_go_when_it_is_named_as_deleted(doors):
    await task(doors)
    await cancelled(doors)
    await doors.tasks.DeleteTask(task_pb2.DeleteTaskRequest(task="build"))
    assert (await refused(delete_runs(doors)))[0] is NOT_FOUND
    await task(doors)
    assert (await delete_runs(doors)).deleted_count == 0, "the living one of this name has none"
    request = task_pb2.DeleteTaskRunsRequest(task="build", deleted_task=True)
    assert (await doors.tasks.DeleteTaskRuns(request)).deleted_count == 1


async def test_only_its_maker_the_tasks_owner_and_admins_delete_a_run(server, doors):
    await task(doors)
    eve = server.doors(await member(doors, "eve", "default"))
    others, own = await cancelled(doors), await cancelled(eve)
    assert (await eve.run(others.id)).id == others.id, "she sees it"
    assert (await refused(delete(eve, others.id)))[0] is NOT_FOUND
    await delete(eve, own.id)
    await delete(doors, (await cancelled(eve)).id)
    assert await listed(doors) == [others.id]
