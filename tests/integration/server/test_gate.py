"""The gate before every call, with methods that misbehave behind it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from control_plane.api.interceptors import Gate, current_caller
from control_plane.domain.errors import ErrorCode, NotFound, Unauthenticated
from control_plane.domain.ids import PrincipalId
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from tests.fakes.clock import FakeClock

SERVICE = "banksman.v1.RunService"
CLOCK = FakeClock()


class Everybody:
    """Believes any name."""

    async def caller(self, authorization: str) -> Caller:
        if authorization == "broken":
            raise RuntimeError("swordfish")
        if authorization == "nobody":
            raise Unauthenticated(ErrorCode.TOKEN_INVALID)
        principal = Principal(
            id=PrincipalId(authorization), kind=PrincipalKind.USER, name=authorization, created_at=CLOCK.now()
        )
        return Caller(principal=principal)


async def behaviour(request: bytes, context) -> bytes:
    match request:
        case b"who":
            await asyncio.sleep(0)
            return current_caller().principal.name.encode()
        case b"missing":
            raise NotFound(ErrorCode.RUN_NOT_FOUND)
        case b"abort":
            await context.abort(grpc.StatusCode.DATA_LOSS, "as it is")
    raise KeyError("swordfish")


async def several(request: bytes, context):
    yield b"first"
    yield await behaviour(request, context)


async def flood(request: bytes, context):
    while True:
        yield bytes(1 << 20)


@pytest.fixture
def gate():
    return Gate(Everybody(), CLOCK)


@pytest.fixture
async def channel(gate):
    server = grpc.aio.server(interceptors=(gate,))
    methods = {
        "GetRun": grpc.unary_unary_rpc_method_handler(behaviour),
        "WatchRuns": grpc.unary_stream_rpc_method_handler(several),
        "ListRuns": grpc.unary_stream_rpc_method_handler(flood),
        "DropAll": grpc.unary_unary_rpc_method_handler(behaviour),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as made:
        yield made
    await server.stop(None)


async def unary(channel, request, who="eve", method="GetRun"):
    return await channel.unary_unary(f"/{SERVICE}/{method}")(request, metadata=(("authorization", who),))


async def stream(channel, request, who="eve"):
    call = channel.unary_stream(f"/{SERVICE}/WatchRuns")(request, metadata=(("authorization", who),))
    return [item async for item in call]


async def test_each_call_has_its_own_caller(channel):
    names = [f"user-{number}" for number in range(20)]
    answers = await asyncio.gather(*(unary(channel, b"who", name) for name in names))
    assert [answer.decode() for answer in answers] == names
    assert await stream(channel, b"who", "eve") == [b"first", b"eve"]


@pytest.mark.parametrize("call", [unary, stream])
async def test_our_errors_keep_their_code_and_others_become_a_number(channel, call):
    for request, status in (
        (b"missing", grpc.StatusCode.NOT_FOUND),
        (b"abort", grpc.StatusCode.DATA_LOSS),
        (b"bug", grpc.StatusCode.INTERNAL),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, request)
        assert caught.value.code() is status
        text = repr(caught.value) + repr(tuple(caught.value.trailing_metadata()))
        assert "swordfish" not in text
        assert "KeyError" not in text
    assert "incident" in text


async def test_when_nobody_can_be_asked_who_calls_nobody_gets_in(channel):
    for who, status in (("nobody", grpc.StatusCode.UNAUTHENTICATED), ("broken", grpc.StatusCode.INTERNAL)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(channel, b"who", who)
        assert caught.value.code() is status
        assert "swordfish" not in repr(caught.value)


async def test_a_method_without_a_rule_is_refused(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(channel, b"who", method="DropAll")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_slow_reader_hears_of_the_end_too(gate, channel):
    call = channel.unary_stream(f"/{SERVICE}/ListRuns")(b"", metadata=(("authorization", "eve"),))
    await call.read()
    gate.stop_waiting()

    async def rest():
        async with asyncio.timeout(20):
            while await call.read() is not grpc.aio.EOF:
                pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rest()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
