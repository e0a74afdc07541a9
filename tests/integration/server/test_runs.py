"""A run from CreateRun to its end, played against a scripted runner."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import run_pb2, spec_pb2
from banksman.v1 import session_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from tests.fakes.runner import exit_record
from tests.fakes.server import log_digest

LOG = b"hello\nworld\n"


async def test_a_run_goes_from_the_queue_to_its_end_with_its_log(server, doors):
    runner = await server.runner()
    run = await doors.submit("echo", "hello")
    assert run.state == run_pb2.RUN_STATE_QUEUED
    async with runner.session() as (stream, welcome):
        assert (welcome.session_epoch, welcome.runner_name) == (1, "host-1")
        assignment = await stream.accept()
        assert assignment.key.run_id == run.id
        assert list(assignment.spec.steps[0].command.argv) == ["echo", "hello"]
        await stream.started(assignment.key)
        await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
        await stream.chunk(assignment.key, 0, LOG)
        assert (await stream.expect("log_ack")).committed_offset == len(LOG)
        await stream.exited(assignment.key, exit_record(0, log=LOG, digest=log_digest(LOG)))
        assert (await stream.expect("release")).key == assignment.key
        done = await doors.settled(run.id)
    assert (done.state, done.reason, done.exit_code) == (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.REASON_EXIT_ZERO, 0)
    data, end = await doors.log(run.id)
    assert (data, end.complete, end.bytes) == (LOG, True, len(LOG))


async def test_an_exit_in_starting_implies_the_start(server, doors):
    runner = await server.runner()
    run = await doors.submit("false")
    async with runner.session() as (stream, _):
        assignment = await stream.accept()
        await stream.exited(assignment.key, exit_record(3))
        done = await doors.settled(run.id)
    assert (done.state, done.exit_code) == (run_pb2.RUN_STATE_FAILED, 3)
    assert "exit code 3" in done.error_message
    events = await doors.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=run.id))
    assert [event.type for event in events.events] == [
        run_pb2.RUN_EVENT_TYPE_CREATED,
        run_pb2.RUN_EVENT_TYPE_OFFERED,
        run_pb2.RUN_EVENT_TYPE_ACCEPTED,
        run_pb2.RUN_EVENT_TYPE_STARTED,
        run_pb2.RUN_EVENT_TYPE_FAILED,
        run_pb2.RUN_EVENT_TYPE_SETTLED,
    ]


async def test_a_failed_run_is_tried_again_by_its_policy(server, doors):
    runner = await server.runner()
    policy = spec_pb2.RetryPolicy(max_attempts=2, backoff=Duration(seconds=1))
    run = await doors.submit("flaky", spec={"retry": policy})
    async with runner.session() as (stream, _):
        first = await stream.accept()
        await stream.exited(first.key, exit_record(1))
        second = await stream.accept()
        assert second.key.run_id == run.id
        assert second.key.lease_epoch > first.key.lease_epoch
        assert second.attempt_number == 2
        await stream.exited(second.key, exit_record(0))
        done = await doors.settled(run.id)
    assert done.state == run_pb2.RUN_STATE_SUCCEEDED
    assert [attempt.number for attempt in done.attempts] == [2, 1]


async def test_a_retry_by_hand_is_a_new_run(server, doors):
    runner = await server.runner()
    run = await doors.submit("false")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.runs.RetryRun(run_pb2.RetryRunRequest(run=run.id))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    async with runner.session() as (stream, _):
        await stream.exited((await stream.accept()).key, exit_record(1))
        await doors.settled(run.id)
        again = await doors.runs.RetryRun(run_pb2.RetryRunRequest(run=run.id))
        assert (again.retry_of, again.root_run_id) == (run.id, run.id)
        assert (again.trigger_type, again.retry_count) == (run_pb2.TRIGGER_TYPE_RETRY, 1)
        key = (await stream.accept()).key
        assert key.run_id == again.id
        await stream.exited(key, exit_record(1))
        await doors.settled(again.id)
        third = await doors.runs.RetryRun(run_pb2.RetryRunRequest(run=again.id))
        assert (third.retry_of, third.root_run_id, third.retry_count) == (again.id, run.id, 2)
        assert (await stream.accept()).attempt_number == 1, "attempts are counted within a run"


async def test_a_refused_offer_goes_back_to_the_queue_and_says_why(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        offer = await stream.expect("offer")
        reply = pb.OfferReply(key=offer.key, reject_reason=pb.REJECT_REASON_LOW_DISK, note="12 MiB left")
        await stream.send(offer_reply=reply)
        queued = await doors.until(run.id, run_pb2.RUN_STATE_QUEUED)
        assert queued.state == run_pb2.RUN_STATE_QUEUED
        assert "12 MiB left" in queued.attempts[0].error_message


async def test_reports_may_come_twice(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        offer = await stream.expect("offer")
        for _ in range(2):
            await stream.send(offer_reply=pb.OfferReply(key=offer.key, accept=True))
        await stream.expect("assignment")
        for _ in range(2):
            await stream.started(offer.key)
        for _ in range(2):
            await stream.exited(offer.key, exit_record(0))
        await stream.expect("release")
        done = await doors.settled(run.id)
        await stream.started(offer.key)
        await stream.exited(offer.key, exit_record(9))
        await stream.heartbeat(1)
        assert await doors.run(run.id) == done
    assert done.state == run_pb2.RUN_STATE_SUCCEEDED


async def test_a_run_that_no_runner_can_take_says_so(server, doors):
    await server.runner()
    selector = spec_pb2.Selector(key="gpu", operator=spec_pb2.SELECTOR_OPERATOR_EXISTS)
    run = await doors.submit(spec={"selectors": [selector]})
    stream = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run.id), timeout=20)
    await stream.read()
    while "gpu" not in (now := await doors.run(run.id)).waiting_because:
        assert now.state == run_pb2.RUN_STATE_QUEUED
    stream.cancel()


async def test_steps_are_reported_while_the_attempt_lives(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        key = (await stream.accept()).key
        ended = run_pb2.StepResult(index=0, kind=spec_pb2.STEP_KIND_MAIN, exit_code=0)
        await stream.send(attempt_event=pb.AttemptEvent(key=key, step_ended=ended))
        running = await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
    assert [step.index for step in running.attempts[0].steps] == [0]


async def test_a_new_run_is_shown_as_it_is_read_later(doors):
    made = await doors.submit("make", spec={"timeout": Duration(seconds=9)})
    read = await doors.run(made.id)
    made.waiting_because = read.waiting_because = ""
    assert made == read
    assert read.spec.grace.seconds == 10
