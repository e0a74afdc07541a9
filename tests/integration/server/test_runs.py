"""A run from CreateRun to its end, played against a scripted runner."""

from __future__ import annotations

import hashlib

from banksman.v1 import run_pb2

from tests.fakes.runner import exit_record

LOG = b"hello\nworld\n"


def digest_of(data: bytes) -> str:
    """SHA-256 over the SHA-256s of the blocks; here there is one."""
    return hashlib.sha256(hashlib.sha256(data).digest()).hexdigest()


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
        await stream.exited(assignment.key, exit_record(0, log=LOG, digest=digest_of(LOG)))
        assert (await stream.expect("release")).key == assignment.key
        done = await doors.settled(run.id)
    assert (done.state, done.reason, done.exit_code) == (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.REASON_EXIT_ZERO, 0)
    data, end = await doors.log(run.id)
    assert (data, end.complete, end.bytes) == (LOG, True, len(LOG))
