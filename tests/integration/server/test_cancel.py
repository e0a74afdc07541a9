"""A cancel in every state: answered means durable, and the run never starts again."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import run_pb2
from banksman.v1 import session_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from tests.fakes.runner import exit_record


async def cancel(doors, run, **words):
    return await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run.id, **words))


async def test_queued(server, doors):
    run = await doors.submit()
    done = await cancel(doors, run, note="not needed")
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_USER_CANCEL)
    assert (done.cancelled_by, done.cancel_note) == ("admin", "not needed")
    assert done.HasField("settled_at")
    runner = await server.runner()
    async with runner.session() as (stream, _):
        await stream.heartbeat(1)
        assert not stream.has("offer")


@pytest.mark.parametrize("named", [str, str.upper, lambda text: text[-8:], lambda text: "@last"])
async def test_by_each_of_its_names(doors, named):
    run = await doors.submit()
    done = await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=named(run.id)))
    assert (done.id, done.state) == (run.id, run_pb2.RUN_STATE_CANCELLED)


async def test_offered(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        offer = await stream.expect("offer")
        done = await cancel(doors, run)
        assert done.state == run_pb2.RUN_STATE_CANCELLED
        assert (await stream.expect("withdraw")).key == offer.key
        await stream.send(offer_reply=pb.OfferReply(key=offer.key, accept=True))
        await stream.expect("fenced")
        assert not stream.has("assignment")


async def test_starting_and_again_while_stopping(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        key = (await stream.accept()).key
        now = await cancel(doors, run, grace=Duration(seconds=3), signal="SIGINT", note="first")
        assert now.state == run_pb2.RUN_STATE_CANCELLING
        stop = await stream.expect("stop")
        assert (stop.key, stop.signal, stop.grace.seconds) == (key, "SIGINT", 3)
        again = await cancel(doors, run, note="second")
        assert again.cancel_note == "first"
        record = exit_record(0, outcome=pb.EXIT_OUTCOME_NOT_STARTED, reason=run_pb2.REASON_NOT_STARTED)
        await stream.exited(key, record)
        done = await doors.settled(run.id)
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_USER_CANCEL)
    assert done.kill_confirmed


async def test_running_with_the_stop_told_step_by_step(server, doors):
    runner = await server.runner()
    run = await doors.submit("sleep", "1000")
    async with runner.session() as (stream, _):
        key = (await stream.accept()).key
        await stream.started(key)
        await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
        await cancel(doors, run)
        await stream.expect("stop")
        for phase in (run_pb2.STOP_PHASE_RECEIVED, run_pb2.STOP_PHASE_SIGNALLED):
            await stream.send(stop_status=pb.StopStatus(key=key, phase=phase))
        killed = exit_record(1, exit_code=None, signal=15, reason=run_pb2.REASON_SIGNALLED)
        await stream.exited(key, killed)
        done = await doors.settled(run.id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await doors.runs.RetryRun(run_pb2.RetryRunRequest(run="ffffffff"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert (await cancel(doors, run)).state == run_pb2.RUN_STATE_CANCELLED
    assert (done.state, done.signal, done.kill_confirmed) == (run_pb2.RUN_STATE_CANCELLED, 15, True)
    assert done.attempts[0].stop.phase == run_pb2.STOP_PHASE_SIGNALLED


async def test_finished(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        await stream.exited((await stream.accept()).key, exit_record(0))
        await doors.settled(run.id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cancel(doors, run)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "SUCCEEDED" in caught.value.details()


async def test_force_is_terminal_at_once_and_fences_the_runner(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        key = (await stream.accept()).key
        await stream.started(key)
        await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
        done = await cancel(doors, run, force=True)
        assert (done.state, done.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_FORCED)
        assert done.lease_epoch > key.lease_epoch
        held = pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_RUNNING)
        (verdict,) = (await stream.heartbeat(1, held)).verdicts
        assert verdict.kind == pb.VERDICT_KIND_FENCED
        assert not verdict.renewed
        await stream.exited(key, exit_record(0))
        late = await doors.settled(run.id)
    assert (late.state, late.reason, late.kill_confirmed) == (done.state, done.reason, True)
