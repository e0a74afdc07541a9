"""Sessions: inventories and verdicts, logs by offset, reconnects, and what ends a stream."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import log_pb2, run_pb2, runner_pb2, system_pb2
from banksman.v1 import session_pb2 as pb

from control_plane.storage import writer
from tests.fakes.runner import exit_record, stamp
from tests.fakes.server import log_digest, spec
from tests.waiting import wait_for_async


def held(key, phase, **words):
    return pb.HeldAttempt(key=key, phase=phase, boot_id="boot-1", **words)


async def running(server, doors, stream):
    """A run that runs on the stream's runner."""
    run = await doors.submit("sleep", "9")
    key = (await stream.accept()).key
    await stream.started(key)
    await doors.until(run.id, run_pb2.RUN_STATE_RUNNING)
    return run, key


async def test_no_work_before_welcome(server, doors):
    runner = await server.runner()
    await doors.submit()
    async with runner.stream() as stream:
        await stream.send(hello=runner.hello(more=True))
        await doors.system.GetStatus(system_pb2.GetStatusRequest())
        assert not stream.has("offer")
        await stream.send(hello=runner.hello())
        await stream.expect("welcome")
        await stream.expect("offer")


async def test_an_exit_shares_the_commit_of_its_start_and_does_not_wait_for_it(server, doors, monkeypatch):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run = await doors.submit("true")
        key = (await stream.accept()).key
        # Alone, the start would be stored in a minute.
        monkeypatch.setattr(writer, "PATIENCE_S", 60.0)
        await stream.started(key)
        await stream.exited(key, exit_record(0, digest=log_digest(b"")))
        await stream.expect("release")
        events = (await doors.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=run.id))).events
        assert [run_pb2.RunEventType.Name(event.type).removeprefix("RUN_EVENT_TYPE_") for event in events][:5] == [
            *("CREATED", "OFFERED", "ACCEPTED", "STARTED", "SUCCEEDED")
        ]


async def test_a_lost_assignment_comes_again_with_the_next_hello(server, doors):
    runner = await server.runner()
    run = await doors.submit("make")
    async with runner.session() as (stream, _):
        key = (await stream.accept()).key
    async with runner.session(inventory=[held(key, pb.HELD_PHASE_ACCEPTED)]) as (stream, welcome):
        (verdict,) = welcome.verdicts
        assert (verdict.kind, verdict.assignment.key, verdict.renewed) == (pb.VERDICT_KIND_START, key, True)
        assert list(verdict.assignment.spec.steps[0].command.argv) == ["make"]
        await stream.exited(key, exit_record(0))
        assert (await doors.settled(run.id)).state == run_pb2.RUN_STATE_SUCCEEDED


async def test_many_large_lost_assignments_come_again_in_pieces(server, doors):
    runner = await server.runner()
    large = spec("true")
    large.steps[0].command.stdin = b"x" * ((1 << 20) - 4096)
    keys = []
    async with runner.session(slots=6) as (stream, _):
        for _ in range(6):
            await doors.runs.CreateRun(run_pb2.CreateRunRequest(spec=large))
            keys.append((await stream.accept()).key)
    missing = [held(key, pb.HELD_PHASE_ACCEPTED) for key in keys]
    started = []
    async with runner.session(slots=6, inventory=missing) as (stream, answer):
        for seq in range(1, 6):
            assert answer.ByteSize() < 3 << 20
            told = [verdict.assignment.key for verdict in answer.verdicts if verdict.HasField("assignment")]
            assert told or not missing
            started += told
            missing = [entry for entry in missing if entry.key not in told]
            answer = await stream.heartbeat(seq, *missing, *(held(key, pb.HELD_PHASE_RUNNING) for key in started))
    assert not missing
    assert sorted(key.run_id for key in started) == sorted(key.run_id for key in keys)


async def test_an_acceptance_that_was_lost_counts_from_the_inventory(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        key = (await stream.expect("offer")).key
    async with runner.session(inventory=[held(key, pb.HELD_PHASE_ACCEPTED)]) as (_, welcome):
        assert welcome.verdicts[0].kind == pb.VERDICT_KIND_START
        assert (await doors.run(run.id)).state == run_pb2.RUN_STATE_ASSIGNED


async def test_a_heartbeat_heals_a_lost_report(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        key = (await stream.accept()).key
        ack = await stream.heartbeat(7, held(key, pb.HELD_PHASE_RUNNING, started_at=stamp(), pid=4711))
        assert [verdict.kind for verdict in ack.verdicts] == [pb.VERDICT_KIND_KEEP]
        assert ack.verdicts[0].renewed
        assert ack.next_interval.seconds == 5
        now = await doors.run(run.id)
        assert (now.state, now.attempts[0].pid) == (run_pb2.RUN_STATE_RUNNING, 4711)
        ack = await stream.heartbeat(8, held(key, pb.HELD_PHASE_EXITED, exit=exit_record(0)))
        assert (await doors.settled(run.id)).state == run_pb2.RUN_STATE_SUCCEEDED


async def test_log_bytes_are_appended_trimmed_rewound_and_released(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(server, doors, stream)
        await stream.chunk(key, 0, b"abc")
        assert (await stream.expect("log_ack")).committed_offset == 3
        await stream.chunk(key, 0, b"abc")
        assert (await stream.expect("log_ack")).committed_offset == 3
        await stream.chunk(key, 2, b"cde")
        assert (await stream.expect("log_ack")).committed_offset == 5
        assert [each.log_bytes for each in (await doors.run(run.id)).attempts] == [5]
        await stream.chunk(key, 9, b"later")
        assert (await stream.expect("log_rewind")).expected_offset == 5
        await stream.exited(key, exit_record(0, log=b"abcdefg", digest=log_digest(b"abcdefg")))
        done = await doors.until(run.id, run_pb2.RUN_STATE_SUCCEEDED)
        assert not done.HasField("settled_at")
        assert not stream.has("release")
        await stream.chunk(key, 5, b"fg")
        assert (await stream.expect("release")).key == key
        await doors.settled(run.id)
    assert (await doors.log(run.id))[0] == b"abcdefg"


async def test_a_reconnected_runner_is_told_where_its_log_goes_on(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(server, doors, stream)
        await stream.chunk(key, 0, b"before ")
        await stream.expect("log_ack")

    async def away():
        return (await doors.run(run.id)).attempts[0].HasField("disconnected_since")

    await wait_for_async(away, what="the runner counts as away")
    now = await doors.run(run.id)
    assert (now.state, now.attempts[0].log_bytes) == (run_pb2.RUN_STATE_RUNNING, 7)
    async with runner.session(inventory=[held(key, pb.HELD_PHASE_RUNNING)]) as (stream, welcome):
        assert welcome.session_epoch == 2
        verdict = welcome.verdicts[0]
        assert (verdict.kind, verdict.resume_offset) == (pb.VERDICT_KIND_KEEP, 7)
        await stream.chunk(key, 7, b"after")
        await stream.expect("log_ack")
        log = b"before after"
        await stream.exited(key, exit_record(0, log=log, digest=log_digest(log)))
        await doors.settled(run.id)
    assert (await doors.log(run.id))[0] == log


async def test_a_follower_sees_bytes_as_they_come_and_the_end(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(server, doors, stream)
        follower = doors.logs.ReadLogs(log_pb2.ReadLogsRequest(run=run.id, follow=True), timeout=30)
        assert (await follower.read()).begin.attempt_number == 1
        for number in range(3):
            await stream.chunk(key, 2 * number, b"%d\n" % number)
            batch = (await follower.read()).batch
            assert (batch.offset, batch.records[0].data) == (2 * number, b"%d\n" % number)
        log = b"0\n1\n2\n"
        await stream.exited(key, exit_record(5, log=log, digest=log_digest(log)))
        end = (await follower.read()).end
        assert (end.state, end.exit_code, end.complete) == (run_pb2.RUN_STATE_FAILED, 5, True)
        assert await follower.read() is grpc.aio.EOF


async def test_a_newer_session_supersedes_the_older_at_once(server, doors):
    runner = await server.runner()
    async with runner.session() as (first, _), runner.session() as (second, welcome):
        assert (await first.expect("goodbye")).reason == "SUPERSEDED"
        await first.gone()
        assert welcome.session_epoch == 2
        await doors.submit()
        await second.expect("offer")
        shown = await doors.runners.GetRunner(runner_pb2.GetRunnerRequest(runner="host-1"))
        assert shown.connected


async def test_a_cloned_state_directory_is_fenced(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        _, key = await running(server, doors, stream)
    listed = [held(key, pb.HELD_PHASE_RUNNING)]
    async with runner.session(state_directory_id="dir-2", inventory=listed) as (stream, welcome):
        assert [verdict.kind for verdict in welcome.verdicts] == [pb.VERDICT_KIND_FENCED]
        await stream.chunk(key, 0, b"foreign")
        assert (await stream.expect("fenced")).key == key


async def test_an_unknown_run_is_neither_killed_nor_renewed(server, doors):
    runner = await server.runner()
    key = pb.AttemptKey(run_id="01890000-0000-7000-8000-000000000001", lease_epoch=4)
    async with runner.session(inventory=[held(key, pb.HELD_PHASE_RUNNING)]) as (_, welcome):
        (verdict,) = welcome.verdicts
        assert (verdict.kind, verdict.renewed) == (pb.VERDICT_KIND_UNKNOWN, False)


async def test_a_paged_inventory_is_one_inventory(server, doors):
    runner = await server.runner()
    keys = [pb.AttemptKey(run_id=f"01890000-0000-7000-8000-{number:012d}", lease_epoch=1) for number in range(4)]
    async with runner.stream() as stream:
        for page, more in ((keys[:2], True), (keys[2:], False)):
            inventory = [held(key, pb.HELD_PHASE_RUNNING) for key in page]
            await stream.send(hello=runner.hello(inventory=inventory, more=more))
        welcome = await stream.expect("welcome")
    assert [verdict.key for verdict in welcome.verdicts] == keys


async def test_a_runner_that_missed_its_resume_hears_it_again_when_it_refuses(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    async with runner.session() as (stream, _):
        offer = await stream.expect("offer")
        await stream.send(offer_reply=pb.OfferReply(key=offer.key, reject_reason=pb.REJECT_REASON_DRAINING))
        assert offer.key.run_id == run.id
        await stream.expect("resume")


async def test_drain_and_resume_by_an_operator(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        await doors.runners.DrainRunner(runner_pb2.DrainRunnerRequest(runner="host-1"))
        await stream.expect("drain")
        run = await doors.submit()
        await stream.heartbeat(1)
        assert not stream.has("offer")

        async def explained():
            return "draining" in (await doors.run(run.id)).waiting_because

        await wait_for_async(explained, what="the next round of dispatch says why the run waits")
        assert not stream.has("offer")
        await doors.runners.ResumeRunner(runner_pb2.ResumeRunnerRequest(runner="host-1"))
        await stream.expect("resume")
        await stream.expect("offer")


async def test_a_revoked_runner_is_cut_off_and_cannot_come_back(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        await doors.runners.RevokeRunner(runner_pb2.RevokeRunnerRequest(runner="host-1"))
        assert (await stream.expect("goodbye")).reason == "REVOKED"
        await stream.gone()
    async with runner.stream() as stream:
        await stream.gone()
        assert stream.error.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await runner.stub.RenewCredential(runner.renewal(int(server.clock.now().timestamp()), b"n" * 16))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "first",
    [
        {"heartbeat": pb.Heartbeat(seq=1)},
        {"hello": pb.Hello(protocol_min=1, protocol_max=1, slots=1)},
        {"hello": pb.Hello(protocol_min=1, protocol_max=1, slots=1, state_directory_id="x" * 129)},
        {"hello": pb.Hello(protocol_min=1, protocol_max=1, slots=1, state_directory_id="d", labels={"": ""})},
    ],
)
async def test_a_stream_that_begins_badly_is_refused(server, first):
    runner = await server.runner()
    async with runner.stream() as stream:
        await stream.send(**first)
        await stream.gone()
    assert stream.error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_programs_that_share_no_protocol_say_so(server):
    runner = await server.runner()
    async with runner.stream() as stream:
        await stream.send(hello=runner.hello(protocol_min=7, protocol_max=9))
        await stream.gone()
    assert stream.error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_broken_message_ends_its_session_and_no_other(server, doors):
    one, other = await server.runner("one"), await server.runner("other", state_directory_id="dir-2")
    async with one.session() as (broken, _), other.session() as (fine, _):
        await broken.send(attempt_started=pb.AttemptStarted())
        await broken.gone()
        assert broken.error.code() is grpc.StatusCode.INVALID_ARGUMENT
        await fine.heartbeat(1)


async def test_a_value_of_a_later_version_ends_no_session(server, doors):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        run, key = await running(server, doors, stream)
        await stream.heartbeat(1, held(key, 99, stop=pb.StopStatus(key=key, phase=99)))
        await stream.send(stop_status=pb.StopStatus(key=key, phase=99))
        await stream.exited(key, exit_record(3, reason=9999, stopped_by=9998))
        done = await doors.settled(run.id)
        assert (done.state, done.exit_code) == (run_pb2.RUN_STATE_FAILED, 3)
        other, key = await running(server, doors, stream)
        log = b"one two"
        await stream.send(
            log_chunk=pb.LogChunk(key=key, records=[log_pb2.LogRecord(kind=77, at=stamp(), data=log)]),
        )
        await stream.expect("log_ack")
        record = exit_record(0, log=log, digest=log_digest(log), outcome=99)
        async with runner.session(inventory=[held(key, pb.HELD_PHASE_EXITED, exit=record)]) as (_, welcome):
            assert welcome.session_epoch == 2
            done = await doors.settled(other.id)
        assert (done.state, done.exit_code) == (run_pb2.RUN_STATE_LOST, 0)
        assert (await doors.log(other.id))[0] == log


async def test_a_message_of_a_later_version_is_passed_over(server):
    runner = await server.runner()
    async with runner.session() as (stream, _):
        await stream.call.write(pb.SessionRequest())
        await stream.heartbeat(1)
