"""What ends with time, on a clock that the test moves."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import access_pb2, runner_pb2
from google.protobuf.duration_pb2 import Duration

from tests.fakes.clock import FakeClock
from tests.fakes.runner import ScriptedRunner
from tests.fakes.server import Server


@pytest.fixture
async def server(tmp_path):
    made = Server(tmp_path / "state", clock=FakeClock())
    await made.start()
    yield made
    await made.close()


async def status(asked):
    try:
        await asked
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_a_token_ends_when_it_was_said_to(server, doors):
    request = access_pb2.CreateTokenRequest(lifetime=Duration(seconds=60))
    mine = server.doors((await doors.access.CreateToken(request)).secret)
    server.clock.advance(59)
    assert await status(mine.access.WhoAmI(access_pb2.WhoAmIRequest())) is grpc.StatusCode.OK
    server.clock.advance(1)
    assert await status(mine.access.WhoAmI(access_pb2.WhoAmIRequest())) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_join_token_ends_after_a_quarter_of_an_hour(server, doors):
    early, late = [(await doors.runners.CreateJoinToken(runner_pb2.CreateJoinTokenRequest())).secret for _ in range(2)]
    one, other = ScriptedRunner(server.target, name="one"), ScriptedRunner(server.target, name="other")
    server.clock.advance(899)
    assert await status(one.enroll(early)) is grpc.StatusCode.OK
    server.clock.advance(1)
    assert await status(other.enroll(late)) is grpc.StatusCode.UNAUTHENTICATED
    for host in (one, other):
        await host.close()


async def test_a_credential_that_ends_cuts_no_open_session_and_can_still_be_renewed(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        server.clock.advance(3601)
        await stream.heartbeat(1)
        await doors.submit()
        await stream.accept()
        async with runner.stream() as late:
            await late.gone()
            assert late.error.code() is grpc.StatusCode.UNAUTHENTICATED
        await stream.heartbeat(2)
        now = int(server.clock.now().timestamp())
        answer = await runner.stub.RenewCredential(runner.renewal(now, bytes(16)))
    async with runner.stream(answer.credential) as stream:
        await stream.send(hello=runner.hello())
        await stream.expect("welcome")
