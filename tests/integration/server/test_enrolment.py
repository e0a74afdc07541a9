"""How a host becomes a runner and stays one: its key is its identity."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import runner_pb2
from banksman.v1 import session_pb2 as pb

from tests.fakes.runner import ScriptedRunner

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
NONCE = bytes(range(16))


async def join_token(doors, **words):
    return (await doors.runners.CreateJoinToken(runner_pb2.CreateJoinTokenRequest(**words))).secret


@pytest.fixture
async def host(server):
    made = ScriptedRunner(server.target)
    yield made
    await made.close()


def refused(status):
    class Refused:
        def __enter__(self):
            self._raises = pytest.raises(grpc.aio.AioRpcError)
            self._caught = self._raises.__enter__()
            return self._caught

        def __exit__(self, *error):
            passed = self._raises.__exit__(*error)
            assert self._caught.value.code() is status
            return passed

    return Refused()


async def test_a_join_token_is_good_for_one_host(server, doors, host):
    token = await join_token(doors)
    await host.enroll(token)
    first = host.runner_id
    await host.enroll(token)
    assert host.runner_id == first
    other = ScriptedRunner(server.target, name="host-2")
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        await other.enroll(token)
    await other.close()


async def test_only_the_key_that_enrols_may_sign(doors, host):
    token = await join_token(doors)
    request = pb.EnrollRequest(join_token=token, name="host-1", public_key=host.public_key, signature=b"x" * 64)
    with refused(UNAUTHENTICATED):
        await host.stub.Enroll(request)
    request.signature = host.key.sign(f"banksman-enroll\n{token}\nother".encode())
    with refused(UNAUTHENTICATED):
        await host.stub.Enroll(request)
    await host.enroll(token)


@pytest.mark.parametrize("token", ["", "x", "bnk_join_" + "0" * 36])
async def test_junk_is_no_join_token(host, token):
    with refused(UNAUTHENTICATED):
        await host.enroll(token)


async def test_a_users_token_does_not_enrol(server, host):
    with refused(UNAUTHENTICATED):
        await host.enroll(server.admin["token"])


async def test_a_deleted_join_token_is_gone(doors, host):
    made = await doors.runners.CreateJoinToken(runner_pb2.CreateJoinTokenRequest())
    await doors.runners.DeleteJoinToken(runner_pb2.DeleteJoinTokenRequest(join_token=made.join_token.id))
    with refused(UNAUTHENTICATED):
        await host.enroll(made.secret)


async def test_labels_must_be_granted(doors, host):
    token = await join_token(doors, granted_labels={"pool": "red"})
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        await host.enroll(token, labels={"pool": "blue"})
    await host.enroll(token, labels={"pool": "red"})


async def test_a_taken_name_needs_replace_and_then_the_old_host_is_out(server, doors):
    old = await server.runner()
    new = ScriptedRunner(server.target)
    token = await join_token(doors)
    async with old.session() as (stream, _):
        with refused(grpc.StatusCode.ALREADY_EXISTS):
            await new.enroll(token)
        await new.enroll(token, replace=True)
        await stream.gone()
    async with old.stream() as stream:
        await stream.gone()
        assert stream.error.code() is UNAUTHENTICATED
    with refused(UNAUTHENTICATED):
        await old.stub.RenewCredential(old.renewal(int(server.clock.now().timestamp()), NONCE))
    async with new.session() as (_, welcome):
        assert welcome.runner_name == "host-1"
    await new.close()


async def test_a_credential_renews_itself_by_signature_once_per_nonce(server):
    runner = await server.runner()
    now = int(server.clock.now().timestamp())
    request = runner.renewal(now, NONCE)
    answer = await runner.stub.RenewCredential(request)
    async with runner.stream(answer.credential) as stream:
        await stream.send(hello=runner.hello())
        await stream.expect("welcome")
    with refused(UNAUTHENTICATED):
        await runner.stub.RenewCredential(request)
    await runner.stub.RenewCredential(runner.renewal(now, NONCE + b"more"))


# Real clocks: one that is ahead comes nearer while the call is on its way.
@pytest.mark.parametrize("off_s", [-301, 360])
async def test_a_signature_of_another_time_is_refused(server, off_s):
    runner = await server.runner()
    with refused(UNAUTHENTICATED):
        await runner.stub.RenewCredential(runner.renewal(int(server.clock.now().timestamp()) + off_s, NONCE))


async def test_nobody_renews_for_another(server):
    one, other = await server.runner("one"), await server.runner("other")
    now = int(server.clock.now().timestamp())
    other.runner_id, theirs = one.runner_id, other.runner_id
    with refused(UNAUTHENTICATED):
        await other.stub.RenewCredential(other.renewal(now, NONCE))
    assert theirs
    with refused(UNAUTHENTICATED):
        request = one.renewal(now, NONCE)
        request.runner_id = "01890000-0000-7000-8000-000000000001"
        await one.stub.RenewCredential(request)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        await one.stub.RenewCredential(one.renewal(now, b"short"))


async def test_the_credential_outlives_a_restart_of_the_server(server):
    runner = await server.runner()
    await server.stop()
    await server.start()
    async with runner.session() as (_, welcome):
        assert welcome.session_epoch == 1
