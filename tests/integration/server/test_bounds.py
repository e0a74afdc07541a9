"""What a peer that misbehaves cannot do: make the server hold ever more, or cut off others."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import grpc
import pytest
from banksman.v1 import run_pb2, runner_pb2, spec_pb2, system_pb2
from banksman.v1 import session_pb2 as pb

from control_plane.api.runner_session import Stream
from tests.fakes.server import Server, spec
from tests.waiting import wait_for_async

MEBIBYTE = 1 << 20
RUNS = 16


async def test_a_runner_that_does_not_read_is_cut_off_instead_of_waited_for(tmp_path):
    server = Server(tmp_path / "state", outbox_bytes=2 * MEBIBYTE)
    await server.start()
    doors = server.doors()
    deaf, fine = await server.runner("deaf"), await server.runner("fine", state_directory_id="dir-2")
    large = spec("true", runner="deaf")
    large.steps[0].command.stdin = b"x" * (MEBIBYTE - 4096)
    call = deaf.stub.Session(metadata=(("authorization", f"Bearer {deaf.credential}"),))
    await call.write(pb.SessionRequest(hello=deaf.hello(slots=RUNS)))
    async with fine.session() as (stream, _):
        runs = [await doors.runs.CreateRun(run_pb2.CreateRunRequest(spec=large)) for _ in range(RUNS)]
        waiting = {run.id for run in runs}

        async def away():
            for run_id in list(waiting):
                offered = await doors.run(run_id)
                if offered.state == run_pb2.RUN_STATE_ASSIGNED:
                    waiting.discard(run_id)
                    key = pb.AttemptKey(run_id=run_id, lease_epoch=offered.attempts[0].lease_epoch)
                    # It may have been cut off by now.
                    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                        await call.write(pb.SessionRequest(offer_reply=pb.OfferReply(key=key, accept=True)))
            shown = await doors.runners.GetRunner(runner_pb2.GetRunnerRequest(runner="deaf"))
            return not shown.connected

        await wait_for_async(away, what="the deaf runner is cut off")
        await stream.heartbeat(1)
        await doors.submit(spec={"runner": "fine"})
        await stream.accept()
    call.cancel()
    await server.close()


async def test_what_is_too_large_is_refused_and_nothing_else_happens(server, doors):
    huge = spec("true")
    huge.steps[0].command.stdin = b"x" * (5 * MEBIBYTE)
    try:
        await doors.runs.CreateRun(run_pb2.CreateRunRequest(spec=huge))
        status = grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        status = error.code()
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = await doors.system.GetStatus(system_pb2.GetStatusRequest())
    assert status.runs_queued == 0


async def test_many_bad_fields_fit_into_one_answer(doors):
    env = [spec_pb2.EnvVar(name=f"1{'x' * 100}{number}", value="v") for number in range(256)]
    try:
        await doors.submit(spec={"env": env})
        status = grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        status = error.code()
    assert status is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_refused_request_is_forgotten_at_once(server: Server) -> None:
    """Also of who has no token: each could be of four mebibytes, and the garbage collector comes by late."""

    def requests() -> int:
        return sum(isinstance(each, run_pb2.CreateRunRequest) for each in gc.get_objects())

    async def refused(token: str | None) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await server.doors(token).runs.CreateRun(run_pb2.CreateRunRequest(task="nightly"))

    async def forgotten() -> bool:
        return requests() == before

    gc.collect()
    gc.disable()
    try:
        before = requests()
        for _ in range(3):
            await refused(None)
            await refused("")
        await wait_for_async(forgotten, what="what was refused is forgotten")
    finally:
        gc.enable()


async def test_an_ended_session_is_forgotten_at_once(server: Server) -> None:
    """With what waited to be written to it; those that lived long are looked after even later."""

    async def forgotten() -> bool:
        return not any(isinstance(each, Stream) for each in gc.get_objects())

    runner = await server.runner()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            async with runner.session() as (stream, _):
                await stream.heartbeat(1)
        await wait_for_async(forgotten, what="the sessions that ended are forgotten")
    finally:
        gc.enable()
