"""What a run says of itself: progress, a result, and what it has used, from its runner to its readers."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import grpc
import pytest
from banksman.v1 import run_pb2
from banksman.v1 import session_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.storage.sqlite import DATABASE_NAME
from tests.fakes.runner import exit_record
from tests.waiting import wait_for_async


def progress(percent=None, stage="", note="", at=1):
    return run_pb2.Progress(percent=percent, stage=stage, note=note, updated_at=Timestamp(seconds=at))


def held(key, told):
    return pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_RUNNING, pid=1, started_at=Timestamp(seconds=1), progress=told)


async def running(doors, stream):
    run = await doors.submit()
    key = (await stream.accept()).key
    await stream.started(key)
    await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
    return run.id, key


def words(told):
    return told.percent, told.stage, told.note


async def test_progress_goes_forward_only_and_is_no_event(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(doors, stream)
        before = await doors.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=run))
        for told, wanted in (
            (progress(40, "compiling", "a.c", 10), (40, "compiling", "a.c")),
            (progress(30, "compiling", "b.c", 20), (40, "compiling", "b.c")),
            (progress(None, "linking", "", 30), (40, "linking", "")),
            (progress(250, "x" * 200, "y" * 2000, 40), (100, "x" * 128, "y" * 1024)),
        ):
            await stream.send(attempt_event=pb.AttemptEvent(key=key, progress=told))

            async def arrived(wanted=wanted):
                return words((await doors.run(run)).progress) == wanted

            await wait_for_async(arrived, what=f"progress {wanted}")
        now = await doors.run(run)
        assert words(now.attempts[0].progress) == words(now.progress)
        after = await doors.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=run))
        assert len(after.events) == len(before.events)
        (listed,) = (await doors.runs.ListRuns(run_pb2.ListRunsRequest())).runs
        assert words(listed.progress) == words(now.progress)


async def test_a_heartbeat_heals_lost_progress_and_a_repeat_writes_nothing(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(doors, stream)
        await stream.heartbeat(1, held(key, progress(60, "testing", at=2_000_000_000)))
        assert words((await doors.run(run)).progress) == (60, "testing", "")
        with sqlite3.connect(server.state / DATABASE_NAME) as raw:
            stored = raw.execute("SELECT progress FROM attempts").fetchall()
            await stream.heartbeat(2, held(key, progress(60, "testing", at=2_000_000_001)))
            assert raw.execute("SELECT progress FROM attempts").fetchall() == stored
        raw.close()


async def test_while_a_run_lives_its_progress_grows_no_older_than_its_hosts_word(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(doors, stream)
        first = (await doors.run(run)).progress
        assert first.estimated
        assert not first.HasField("percent")
        await stream.heartbeat(1, held(key, None))
        second = (await doors.run(run)).progress
        assert second.updated_at.ToDatetime() > first.updated_at.ToDatetime()
        assert server.clock.now().replace(tzinfo=None) - second.updated_at.ToDatetime() < timedelta(seconds=30)
        await stream.exited(key, exit_record(0))
        done = await doors.until(run, run_pb2.RUN_STATE_SUCCEEDED)
        assert not done.HasField("progress")


async def test_a_watch_of_one_run_shows_its_progress(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(doors, stream)
        changes = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run), timeout=20)
        present = await changes.read()
        await stream.send(attempt_event=pb.AttemptEvent(key=key, progress=progress(7, "cloning")))
        while not (change := await changes.read()).run.HasField("progress") or change.run.progress.percent != 7:
            pass
        assert (change.run.progress.stage, change.HasField("event")) == ("cloning", False)
        assert change.resume_token == present.resume_token
        changes.cancel()
        again = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run), timeout=20)
        assert (await again.read()).run.progress.percent == 7
        await stream.send(attempt_event=pb.AttemptEvent(key=key, progress=progress(8, "cloning")))
        assert (await again.read()).run.progress.percent == 8, "what is there already is told once"
        again.cancel()


@pytest.mark.parametrize("size", [256 << 10, (256 << 10) + 1])
async def test_the_end_brings_result_usage_and_the_last_progress(server, doors, size):
    runner = await server.runner()
    data = '"' + "x" * (size - 2) + '"'
    usage = run_pb2.ResourceUsage(
        cpu_s=1.5, cpu_source="wait4", max_rss_bytes=1 << 20, max_rss_source="wait4", written_bytes=0, io_source="wait4"
    )
    async with runner.session() as (stream, _):
        run, key = await running(doors, stream)
        record = exit_record(0, result_data=data, progress=progress(100, "done"), usage=usage)
        await stream.exited(key, record)
        done = await doors.until(run, run_pb2.RUN_STATE_SUCCEEDED)
    fits = size == 256 << 10
    assert (done.result_data == data, "larger than 262144" in done.result_error) == (fits, not fits)
    assert words(done.progress) == (100, "done", "")
    assert not done.progress.estimated
    assert done.attempts[0].usage == usage
    assert not done.attempts[0].usage.HasField("read_bytes"), "unknown is not 0"
    assert not any(done.HasField(name) for name in ("total_messages", "total_tool_calls", "input_tokens", "cost_usd"))


async def test_a_result_that_was_not_taken_says_why(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(doors, stream)
        await stream.exited(key, exit_record(0, result_error="the result file is not JSON"))
        done = await doors.until(run, run_pb2.RUN_STATE_SUCCEEDED)
    assert (done.result_data, done.result_error) == ("", "the result file is not JSON")


async def test_a_watch_by_a_filter_tells_of_those_that_match(server, doors):
    others = [await doors.submit() for _ in range(2)]
    wanted = await doors.submit(options=run_pb2.RunOptions(labels={"team": "web"}))
    request = run_pb2.WatchRunsRequest(filter="label.team = web")
    changes = doors.runs.WatchRuns(request, timeout=20)
    present = await changes.read()
    assert (present.run.id, present.HasField("event")) == (wanted.id, False)
    for run in (others[0], wanted):
        await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run.id))
    told = [await changes.read() for _ in range(2)]
    assert {change.event.run_id for change in told} == {wanted.id}
    changes.cancel()
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=others[1].id))
    late = await doors.submit(options=run_pb2.RunOptions(labels={"team": "web"}))
    again = doors.runs.WatchRuns(
        run_pb2.WatchRunsRequest(filter=request.filter, resume_token=told[0].resume_token), timeout=20
    )
    behind = [await again.read()]
    while behind[-1].event.run_id != late.id:
        behind.append(await again.read())
    assert behind[0].event.number == told[1].event.number
    assert {change.event.run_id for change in behind[:-1]} == {wanted.id}
    again.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.runs.WatchRuns(run_pb2.WatchRunsRequest(resume_token=told[0].resume_token), timeout=20).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, "a token is good for its own watch"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.runs.WatchRuns(run_pb2.WatchRunsRequest(filter="colour = blue"), timeout=20).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_token_from_before_what_is_kept_has_expired_and_a_newer_one_goes_on(server, doors):
    quiet = await doors.submit()
    changes = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=quiet.id), timeout=20)
    await changes.read()
    stale = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(), timeout=20)
    token = (await stale.read()).resume_token
    stale.cancel()
    other = await doors.submit()
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=other.id))
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=quiet.id, note="now"))
    while (change := await changes.read()).event.type != run_pb2.RUN_EVENT_TYPE_SETTLED:
        pass
    changes.cancel()
    with sqlite3.connect(server.state / DATABASE_NAME) as raw:
        raw.execute("INSERT INTO settings VALUES ('events_deleted_to', ?, 0)", (str(change.event.number),))
    raw.close()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.runs.WatchRuns(run_pb2.WatchRunsRequest(resume_token=token), timeout=20).read()
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    again = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=quiet.id, resume_token=change.resume_token), timeout=20)
    await doors.runs.DeleteRun(run_pb2.DeleteRunRequest(run=quiet.id))
    assert (await again.read()).event.type == run_pb2.RUN_EVENT_TYPE_DELETED
    again.cancel()
