"""The server as a whole: starts, restarts, refusals to start, health, and what it says when it breaks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys

import grpc
import pytest
from banksman.v1 import access_pb2, log_pb2, run_pb2, runner_pb2
from banksman.v1 import session_pb2 as pb
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from control_plane.rooms import CannotStart
from tests.fakes.runner import ScriptedRunner, exit_record
from tests.fakes.server import Server, log_digest


async def test_a_restart_disturbs_no_run(server, doors):
    runner = await server.runner()
    run = await doors.submit("make")
    queued = await doors.submit("later", spec={"runner": "host-1", "slots": 4})
    async with runner.session() as (stream, welcome):
        key = (await stream.accept()).key
        await stream.started(key)
        await stream.chunk(key, 0, b"one ")
        await stream.expect("log_ack")
        await server.stop()
        assert (await stream.expect("goodbye")).reason == "SHUTTING_DOWN"
        await stream.gone()
    await server.start()
    doors = server.doors()
    assert (await doors.run(run.id)).state == run_pb2.RUN_STATE_RUNNING
    listed = [pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_RUNNING, boot_id="boot-1")]
    async with runner.session(inventory=listed) as (stream, again):
        assert again.session_epoch == welcome.session_epoch + 1
        assert (again.verdicts[0].kind, again.verdicts[0].resume_offset) == (pb.VERDICT_KIND_KEEP, 4)
        await stream.chunk(key, 4, b"two")
        log = b"one two"
        await stream.exited(key, exit_record(0, log=log, digest=log_digest(log)))
        await doors.settled(run.id)
        assert (await stream.expect("offer")).key.run_id == queued.id
    assert (await doors.log(run.id))[0] == log


async def test_a_cancel_while_the_runner_is_away_waits_in_its_next_welcome(server, doors):
    runner = await server.runner()
    run = await doors.submit("make")
    async with runner.session() as (stream, _):
        key = (await stream.accept()).key
        await stream.started(key)
        await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
    now = await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run.id))
    assert now.state == run_pb2.RUN_STATE_CANCELLING
    await server.stop()
    await server.start()
    listed = [pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_RUNNING, boot_id="boot-1")]
    async with runner.session(inventory=listed) as (_, welcome):
        assert welcome.verdicts[0].kind == pb.VERDICT_KIND_STOP
        assert welcome.verdicts[0].stop.signal == "SIGTERM"


async def test_the_admins_token_and_the_instance_stay(server):
    first = server.admin
    await server.stop()
    await server.start()
    assert server.admin["token"] == first["token"]
    assert server.admin["url"] == server.url
    who = await server.doors().access.WhoAmI(access_pb2.WhoAmIRequest())
    assert (who.name, who.admin) == ("admin", True)


async def test_a_lost_token_file_is_replaced(server):
    lost = server.admin["token"]
    await server.stop()
    (server.state / "admin.json").unlink()
    await server.start()
    assert server.admin["token"] != lost
    await server.doors().access.WhoAmI(access_pb2.WhoAmIRequest())


async def test_a_revoked_token_in_the_file_is_replaced(server, doors):
    first = server.admin["token"]
    (listed,) = (await doors.access.ListTokens(access_pb2.ListTokensRequest())).tokens
    other = await doors.access.CreateToken(access_pb2.CreateTokenRequest())
    await doors.access.RevokeToken(access_pb2.RevokeTokenRequest(token=listed.id))
    await server.stop()
    await server.start()
    assert server.admin["token"] not in (first, other.secret)
    who = await server.doors().access.WhoAmI(access_pb2.WhoAmIRequest())
    assert (who.name, who.admin) == ("admin", True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.doors(first).access.WhoAmI(access_pb2.WhoAmIRequest())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_what_holds_a_secret_is_private(server):
    for name in ("admin.json", "secret.key", "runner.key", "banksman.db"):
        assert stat.S_IMODE((server.state / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(server.state.stat().st_mode) == 0o700
    assert not list(server.state.glob("*.new"))


async def test_a_second_server_on_the_same_state_is_refused(server):
    with pytest.raises((CannotStart, ExceptionGroup)) as caught:
        await Server(server.state).start()
    assert sentence(caught.value)


async def test_a_taken_port_is_named(server, tmp_path):
    other = Server(tmp_path / "other")
    other._listen = server.target
    with pytest.raises((CannotStart, ExceptionGroup)) as caught:
        await other.start()
    assert server.target in sentence(caught.value)
    await server.doors().access.WhoAmI(access_pb2.WhoAmIRequest())


def sentence(error):
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, CannotStart)
    return str(error)


async def test_health_is_open_and_reflection_needs_a_token(server):
    channel = server.doors(None).channel
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "banksman.v1.RunService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reflection.ServerReflectionInfo(iter([request])).read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    metadata = (("authorization", f"Bearer {server.admin['token']}"),)
    answer = await reflection.ServerReflectionInfo(iter([request]), metadata=metadata).read()
    names = {service.name for service in answer.list_services_response.service}
    assert {"banksman.v1.RunService", "banksman.v1.RunnerSessionService", "grpc.health.v1.Health"} <= names


async def program(*words, **environment):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "control_plane",
        *words,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finished(process):
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_program_serves_until_sigterm(tmp_path):
    state = tmp_path / "state"
    process = await program("serve", "--state-dir", str(state), "--listen", "127.0.0.1:0", "--log-format", "json")
    lines = []
    async with asyncio.timeout(30):
        while not lines or not lines[-1].startswith("banksman-server"):
            lines.append((await process.stderr.readline()).decode())
    admin = json.loads((state / "admin.json").read_text())
    assert lines[-1].strip() == f"banksman-server serves {admin['url']}"
    assert admin["pid"] == process.pid
    second = await finished(await program("serve", "--state-dir", str(state), "--listen", "127.0.0.1:0"))
    assert second[0] == 1
    assert len(second[2].strip().splitlines()) == 1
    port = admin["url"].rpartition(":")[2]
    third = await finished(
        await program("serve", "--state-dir", str(tmp_path / "other"), "--listen", f"127.0.0.1:{port}")
    )
    assert third[0] == 1
    assert f"127.0.0.1:{port}" in third[2].splitlines()[-1]
    process.send_signal(signal.SIGTERM)
    code, out, err = await finished(process)
    assert (code, out) == (0, "")
    assert admin["token"] not in err
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["stopping", "stopped"]


async def test_a_state_directory_that_cannot_be_used_is_named_in_one_line(tmp_path):
    for name, content in (
        ("banksman.db", b"this is no database" * 1000),
        ("secret.key", b"short"),
        ("runner.key", b"x"),
    ):
        state = tmp_path / name
        state.mkdir(mode=0o700)
        (state / name).write_bytes(content)
        (state / name).chmod(0o600)
        code, _, err = await finished(await program("serve", "--state-dir", str(state), "--listen", "127.0.0.1:0"))
        assert code == 1, name
        assert "Traceback" not in err, name
        (line,) = err.strip().splitlines()
        assert line.startswith("banksman-server: "), name
        assert name in line, name


async def test_the_programs_other_commands(tmp_path):
    state = str(tmp_path / "state")
    code, out, _ = await finished(await program("version"))
    assert (code, out.startswith("banksman-server ")) == (0, True)
    code, out, _ = await finished(await program("check-config", "--state-dir", state))
    assert (code, state in out) == (0, True)
    code, _, err = await finished(await program("check-config", BANKSMAN_SERVER_COLOUR="red"))
    assert (code, "'colour'" in err) == (2, True)
    code, _, err = await finished(await program("serve", "--listen", "0.0.0.0:0", "--state-dir", state))
    assert (code, "--insecure" in err) == (2, True)
    assert (await finished(await program("frobnicate")))[0] == 2


async def test_who_only_waits_is_told_to_come_again_when_the_server_stops(tmp_path):
    server = Server(tmp_path / "state", stop_grace_s=600.0)
    await server.start()
    doors = server.doors()
    run = await doors.submit()
    watch = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run.id))
    await watch.read()
    follower = doors.logs.ReadLogs(log_pb2.ReadLogsRequest(run=run.id, follow=True))
    wait = doors.runs.WaitRun(run_pb2.WaitRunRequest(run=run.id))
    # The watch of the project is answered behind the calls above, so they are all being served.
    await doors.runs.WatchRuns(run_pb2.WatchRunsRequest()).read()
    await server.stop()
    for asked in (watch.read(), follower.read(), wait):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await server.close()


async def test_a_stream_that_says_nothing_is_closed(tmp_path):
    server = Server(tmp_path / "state", hello_timeout_s=0.1)
    await server.start()
    runner = await server.runner()
    async with runner.stream() as stream:
        assert (await stream.expect("goodbye")).reason == "HELLO_TIMEOUT"
        await stream.gone()
    await server.close()


async def test_a_join_token_makes_one_runner_of_many_that_try_at_once(server, doors):
    made = await doors.runners.CreateJoinToken(runner_pb2.CreateJoinTokenRequest())
    hosts = [ScriptedRunner(server.target, name=f"host-{number}") for number in range(20)]
    answers = await asyncio.gather(*(host.enroll(made.secret) for host in hosts), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert len(refused) == 19
    assert {error.code() for error in refused} == {grpc.StatusCode.FAILED_PRECONDITION}
    for host in hosts:
        await host.close()
