"""What an operator sees of a runner in trouble, and how its runs are freed by hand: real gRPC, a scripted runner."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import access_pb2, run_pb2, runner_pb2, spec_pb2
from banksman.v1 import session_pb2 as pb

from tests.fakes.runner import exit_record, stamp
from tests.fakes.server import spec
from tests.waiting import wait_for_async

HOST = runner_pb2.GetRunnerRequest(runner="host-1")


def held(key, phase, **words):
    return pb.HeldAttempt(key=key, phase=phase, boot_id="boot-1", **words)


def retrying():
    return spec("sleep", "9", loss=spec_pb2.LossPolicy(on_lost=spec_pb2.ON_LOST_RETRY))


async def running(doors, stream, of=None):
    """A run that runs on the stream's runner."""
    run = await doors.runs.CreateRun(run_pb2.CreateRunRequest(spec=of or spec("sleep", "9")))
    key = (await stream.accept()).key
    await stream.started(key)
    await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
    return run, key


async def away(doors):
    async def gone():
        return not (await doors.runners.GetRunner(HOST)).connected

    await wait_for_async(gone, what="the runner counts as away")


async def test_a_run_tells_whether_its_host_is_reached_and_what_frees_it(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, _ = await running(doors, stream)
        never, _ = await running(doors, stream, spec("sleep", "9", loss=spec_pb2.LossPolicy(never=True)))
        (attempt,) = (await doors.run(run.id)).attempts
        assert attempt.connectivity == run_pb2.CONNECTIVITY_CONNECTED
        assert not attempt.HasField("given_up_at")
    await away(doors)
    silent = await doors.run(run.id)
    (attempt,) = silent.attempts
    assert attempt.connectivity == run_pb2.CONNECTIVITY_DISCONNECTED
    assert attempt.HasField("disconnected_since")
    assert attempt.given_up_at.seconds - attempt.disconnected_since.seconds > 86_000
    assert [remedy.command for remedy in silent.remedies] == [
        f"banksman run cancel {run.id} --force",
        "banksman runner mark-lost host-1",
        "banksman runner mark-lost host-1 --host-is-dead",
    ]
    waiting = await doors.run(never.id)
    assert not waiting.attempts[0].HasField("given_up_at")
    assert len(waiting.remedies) == 3
    runner.state_directory_id = "dir-2"
    async with runner.session():
        other = await doors.run(run.id)
        assert other.attempts[0].connectivity == run_pb2.CONNECTIVITY_HOLDER_AWAY
        assert [remedy.command for remedy in other.remedies] == [f"banksman run cancel {run.id} --force"]
        (alarm,) = (await doors.runners.GetRunner(HOST)).clone_alarms
        assert "dir-2 after dir-1" in alarm.message


async def test_a_runner_that_was_marked_lost_comes_back_fenced_with_its_evidence(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(doors, stream)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await doors.runners.MarkRunnerLost(runner_pb2.MarkRunnerLostRequest(runner="host-1"))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await away(doors)
    request = runner_pb2.MarkRunnerLostRequest(runner="host-1", note="its rack burns")
    marked = await doors.runners.MarkRunnerLost(request)
    assert list(marked.lost_run_ids) == [run.id]
    assert marked.sealed_logs == 0
    lost = await doors.run(run.id)
    assert (lost.state, lost.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_MARKED_LOST)
    assert lost.error_message.endswith(": its rack burns.")
    assert lost.attempts[0].end_proof == run_pb2.END_PROOF_NOT_PROVEN
    assert not lost.HasField("settled_at")
    assert [remedy.command for remedy in lost.remedies] == ["banksman runner mark-lost host-1 --host-is-dead"]
    assert list((await doors.runners.MarkRunnerLost(request)).lost_run_ids) == []
    events = (await doors.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=run.id))).events
    assert (events[-1].type, events[-1].actor) == (run_pb2.RUN_EVENT_TYPE_LOST, "admin")
    async with runner.session(inventory=[held(key, pb.HELD_PHASE_RUNNING)]) as (stream, welcome):
        assert welcome.verdicts[0].kind == pb.VERDICT_KIND_FENCED
        await stream.exited(key, exit_record(9))
        ended = await doors.settled(run.id)
    assert (ended.state, ended.exit_code, ended.kill_confirmed) == (run_pb2.RUN_STATE_LOST, 9, True)
    assert ended.attempts[0].end_proof == run_pb2.END_PROOF_CONFIRMED


async def test_a_dead_host_frees_its_runs_and_closes_its_logs(server, doors):
    runner = await server.runner()
    async with runner.session(slots=4) as (stream, _):
        run, key = await running(doors, stream)
        again, again_key = await running(doors, stream, retrying())
        await stream.chunk(key, 0, b"abc")
        await stream.expect("log_ack")
    await away(doors)
    marked = await doors.runners.MarkRunnerLost(
        runner_pb2.MarkRunnerLostRequest(runner=runner.runner_id, host_is_dead=True)
    )
    assert (list(marked.lost_run_ids), list(marked.queued_run_ids)) == ([run.id], [again.id])
    assert marked.sealed_logs == 2
    lost = await doors.settled(run.id)
    (attempt,) = lost.attempts
    assert (attempt.log_bytes, attempt.log_complete, attempt.log_counted) == (3, False, False)
    assert (await doors.log(run.id))[0] == b"abc"
    assert (await doors.run(again.id)).state == run_pb2.RUN_STATE_QUEUED
    ended = held(key, pb.HELD_PHASE_EXITED, exit=exit_record(0, log=b"abcdefg"))
    async with runner.session(slots=4, inventory=[ended]) as (_, welcome):
        assert welcome.verdicts[0].kind == pb.VERDICT_KIND_RELEASE
    late = await doors.run(run.id)
    assert (late.state, late.exit_code, late.kill_confirmed) == (run_pb2.RUN_STATE_LOST, 0, True)
    assert [(gap.from_offset, gap.to_offset) for gap in late.attempts[0].gaps] == [(3, 7)]
    assert late.attempts[0].log_counted
    assert again_key.run_id == again.id


async def test_what_a_runner_set_aside_and_what_nobody_knows_reaches_the_operator(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(doors, stream)
        unknown = pb.AttemptKey(run_id="0199aaaa-bbbb-7ccc-8ddd-eeee12345678", lease_epoch=3)
        await stream.heartbeat(
            1,
            held(key, pb.HELD_PHASE_QUARANTINED, message="exit: it is no JSON"),
            held(unknown, pb.HELD_PHASE_RUNNING),
        )
        shown = await doors.runners.GetRunner(HOST)
        assert shown.connected_since.seconds >= shown.created_at.seconds
        assert list(shown.unknown_run_ids) == [unknown.run_id]
        by_run = {attempt.run_id: attempt for attempt in shown.attempts}
        assert by_run[run.id].phase == pb.HELD_PHASE_QUARANTINED
        assert by_run[run.id].state == run_pb2.ATTEMPT_STATE_RUNNING
        assert by_run[run.id].message == "exit: it is no JSON"
        assert by_run[unknown.run_id].state == run_pb2.ATTEMPT_STATE_UNSPECIFIED
        aside = await doors.run(run.id)
        assert aside.attempts[0].connectivity == run_pb2.CONNECTIVITY_SET_ASIDE
        assert aside.attempts[0].host_message == "exit: it is no JSON"
        assert aside.attempts[0].HasField("given_up_at")
        assert [remedy.command for remedy in aside.remedies] == [f"banksman run cancel {run.id} --force"]
        (listed,) = (await doors.runners.ListRunners(runner_pb2.ListRunnersRequest())).runners
        assert not listed.attempts


async def test_a_stop_keeps_both_clocks(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(doors, stream)
        await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run.id))
        await stream.expect("stop")
        ahead = stamp(4_000_000_000)
        await stream.send(stop_status=pb.StopStatus(key=key, phase=run_pb2.STOP_PHASE_RECEIVED, at=ahead))
        await stream.send(stop_status=pb.StopStatus(key=key, phase=run_pb2.STOP_PHASE_SIGNALLED, at=stamp(1)))
        await stream.exited(key, exit_record(9, signalled_at=stamp(1), killed_at=stamp(2), survivors_killed=3))
        ended = await doors.settled(run.id)
    (attempt,) = ended.attempts
    stop = attempt.stop
    assert (stop.received_at, stop.signalled_at, stop.killed_at) == (ahead, stamp(1), stamp(2))
    heard = [stop.requested_at, stop.received_heard_at, stop.signalled_heard_at, stop.killed_heard_at]
    assert heard == sorted(heard, key=lambda at: (at.seconds, at.nanos))
    assert heard[0].seconds >= ended.created_at.seconds
    assert (stop.phase, attempt.survivors_killed) == (run_pb2.STOP_PHASE_KILLED, 3)
    assert (stop.signal, stop.grace.seconds) == ("SIGTERM", 10)


async def test_only_admins_see_what_others_run(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        await running(doors, stream)
        token = await member(doors)
        shown = await server.doors(token).runners.GetRunner(HOST)
        assert (list(shown.held_run_ids), list(shown.attempts)) == ([], [])
        assert (await doors.runners.GetRunner(HOST)).attempts


async def member(doors):
    kind = access_pb2.PRINCIPAL_KIND_USER
    await doors.access.CreatePrincipal(
        access_pb2.CreatePrincipalRequest(principal=access_pb2.Principal(kind=kind, name="bo"))
    )
    return (await doors.access.CreateToken(access_pb2.CreateTokenRequest(principal="bo"))).secret
