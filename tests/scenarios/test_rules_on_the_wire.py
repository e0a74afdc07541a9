"""The rules of the session at a real control plane: what lost, late, doubled, foreign and early words bring about."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from banksman.v1 import access_pb2, run_pb2, spec_pb2
from banksman.v1 import session_pb2 as pb

from tests.scenarios.house import House
from tests.scenarios.specs import spec
from tests.scenarios.wire import SOON, Wire, labels, listed, played, record

RETRY_LOST = spec_pb2.LossPolicy(on_lost=spec_pb2.ON_LOST_RETRY)
SHIM_DIED = {"outcome": pb.EXIT_OUTCOME_SHIM_DIED, "reason": run_pb2.REASON_SHIM_DIED}
NOT_STARTED = {"outcome": pb.EXIT_OUTCOME_NOT_STARTED, "reason": run_pb2.REASON_NOT_STARTED}
LOG = b"one\ntwo\n"


@pytest.fixture(scope="module")
def plane() -> Iterator[House]:
    with House() as made:
        yield made


@pytest.fixture
async def wire(plane: House) -> AsyncIterator[Wire]:
    plane.server.expect_running()
    async with played(plane) as made:
        yield made


# -- an ack means stored


async def test_nothing_is_acknowledged_that_is_not_stored(wire: Wire) -> None:
    """No file of the server's may grow above what the log is already: bytes arrive, and cannot be kept."""
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
        log = random.Random(1).randbytes(18 << 16)
        pieces = [log[at : at + (1 << 16)] for at in range(0, len(log), 1 << 16)]
        for number, piece in enumerate(pieces[:-1]):
            await stream.chunk(key, number << 16, piece)
        while (await stream.expect("log_ack")).committed_offset < 17 << 16:
            pass
        server = wire.house.server.pid
        limits = resource.prlimit(server, resource.RLIMIT_FSIZE)
        resource.prlimit(server, resource.RLIMIT_FSIZE, (17 << 16, limits[1]))
        await stream.chunk(key, 17 << 16, pieces[-1])
        await wire.quiet(stream, 1, listed(key, pb.HELD_PHASE_RUNNING))
        assert not stream.has("log_ack"), "acknowledged what lies in no file"
        resource.prlimit(server, resource.RLIMIT_FSIZE, limits)
        assert (await stream.expect("log_ack")).committed_offset == len(log)
        await stream.exited(key, record(0, log))
        await wire.settled(run)
        assert wire.house.log(run.id) == log


async def test_a_log_that_the_disk_does_not_give_ends_nothing_but_itself(wire: Wire) -> None:
    """Something that is no file lies where one log's first segment belongs."""
    async with wire.runner.session(labels=labels(wire), slots=2) as (stream, _):
        run, key = await wire.begun(stream)
        other, healthy = await wire.begun(stream)
        logs = wire.house.server_directory / "logs" / key.run_id[:8]
        obstacle = logs / f"{key.run_id}.{key.lease_epoch}.000001.seg"
        obstacle.mkdir(parents=True)
        await stream.chunk(key, 0, LOG)
        held = [listed(each, pb.HELD_PHASE_RUNNING) for each in (key, healthy)]
        ack = await wire.quiet(stream, 1, *held)
        assert [verdict.kind for verdict in ack.verdicts] == [pb.VERDICT_KIND_KEEP] * 2
        assert not stream.has("log_ack")
        await stream.exited(healthy, record(0))
        assert (await wire.settled(other)).state == run_pb2.RUN_STATE_SUCCEEDED
        await stream.exited(key, record(0, LOG))
        assert (await wire.until(run, run_pb2.RUN_STATE_SUCCEEDED)).state, "its end waits for its log"
        obstacle.rmdir()
        await stream.chunk(key, 0, LOG)
        await wire.settled(run)
        assert wire.house.log(run.id) == LOG


# -- who may say what


async def test_what_is_said_late_of_an_attempt_that_is_over_moves_nothing(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
        forced = wire.house.cancel(run.id, force=True)
        assert (forced.state, forced.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_FORCED)
        assert not forced.kill_confirmed
        await stream.exited(key, record(0, LOG))
        await stream.chunk(key, 0, LOG)
        release = await wire.hears(stream, "release", "late words ended the session, or their evidence is not kept")
        assert release.key == key
        done = await wire.settled(run)
        assert (done.state, done.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_FORCED), "a late word moved it"
        assert (done.exit_code, done.kill_confirmed, wire.house.log(run.id)) == (0, True, LOG)


async def test_the_log_of_an_attempt_is_completed_while_the_next_one_runs(wire: Wire) -> None:
    ended = record(1, LOG)
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, first = await wire.begun(stream, retry=SOON)
        await stream.exited(first, ended)
        second = await wire.given(stream, run)
        assert second.lease_epoch > first.lease_epoch
    inventory = [listed(first, pb.HELD_PHASE_EXITED, exit=ended), listed(second, pb.HELD_PHASE_ACCEPTED)]
    async with wire.runner.session(labels=labels(wire), inventory=inventory) as (stream, _):
        await stream.chunk(first, 0, LOG)
        release = await wire.hears(stream, "release", "the log of an attempt that is over is not completed")
        assert release.key == first
        await stream.exited(second, record(0))
        done = await wire.settled(run)
        assert (done.state, [each.log_complete for each in done.attempts]) == (run_pb2.RUN_STATE_SUCCEEDED, [True] * 2)
        assert wire.house.log(run.id, lease_epoch=first.lease_epoch) == LOG


async def test_a_clone_of_a_host_does_not_speak_for_it(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
        await stream.chunk(key, 0, LOG)
        await stream.expect("log_ack")
    clone = {"state_directory_id": "copied", "boot_id": "boot-2", "labels": labels(wire)}
    async with wire.runner.session(**clone) as (stream, _):
        await stream.exited(key, record(0, LOG))
        assert (await stream.expect("fenced")).key == key
        await stream.chunk(key, len(LOG), b"foreign")
        assert (await stream.expect("fenced")).key == key
        await wire.quiet(stream)
    now = wire.get(run)
    assert (now.state, now.attempts[0].log_complete) == (run_pb2.RUN_STATE_RUNNING, False), "a clone ended it"
    async with wire.runner.session(
        labels=labels(wire), inventory=[listed(key, pb.HELD_PHASE_EXITED, exit=record(5, LOG))]
    ):
        done = await wire.settled(run)
    assert (done.state, done.exit_code, wire.house.log(run.id)) == (run_pb2.RUN_STATE_FAILED, 5, LOG)


async def test_nobody_adds_to_the_log_of_another(wire: Wire, plane: House) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _), played(plane) as stranger:
        run, key = await wire.begun(stream)
        await stream.chunk(key, 0, LOG[:4])
        await wire.hears(stream, "log_ack", "the holder's own bytes are not taken")
        async with stranger.runner.session() as (other, _):
            await other.chunk(key, 4, b"foreign")
            fenced = await wire.hears(other, "fenced", "a stranger's bytes were taken")
            assert fenced.key == key
        await stream.chunk(key, 4, LOG[4:])
        await stream.exited(key, record(0, LOG))
        await wire.settled(run)
        assert wire.house.log(run.id) == LOG, "a stranger wrote into it"


async def test_a_credential_is_renewed_only_for_whoever_has_the_key(wire: Wire, plane: House) -> None:
    """The request names a runner; only the signature says who it is."""
    async with played(plane) as thief:
        thief.runner.runner_id = wire.runner.runner_id
        now = int(time.time())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await thief.runner.stub.RenewCredential(thief.runner.renewal(now, b"n" * 16))
        assert refused.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        answer = await wire.runner.stub.RenewCredential(wire.runner.renewal(now, b"m" * 16))
        assert answer.credential


async def test_a_boot_id_of_hello_ends_no_attempt(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
    entry = listed(key, pb.HELD_PHASE_RUNNING)
    async with wire.runner.session(labels=labels(wire), boot_id="boot-2", inventory=[entry]) as (stream, welcome):
        assert [verdict.kind for verdict in welcome.verdicts] == [pb.VERDICT_KIND_KEEP]
        await wire.quiet(stream, 1, entry)
        assert wire.get(run).state == run_pb2.RUN_STATE_RUNNING, "a reboot was believed from Hello alone"
        await stream.exited(key, record(0))
        assert (await wire.settled(run)).state == run_pb2.RUN_STATE_SUCCEEDED


# -- cancels and retries


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (SHIM_DIED, run_pb2.ATTEMPT_STATE_LOST),
        ({}, run_pb2.ATTEMPT_STATE_CANCELLED),
        (NOT_STARTED, run_pb2.ATTEMPT_STATE_CANCELLED),
    ],
    ids=["shim-died", "failed", "not-started"],
)
async def test_a_run_that_is_being_cancelled_is_never_tried_again(
    wire: Wire, words: dict[str, int], state: run_pb2.AttemptState.ValueType
) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run = wire.submit(retry=SOON, loss=RETRY_LOST)
        key = await wire.given(stream, run)
        if words is not NOT_STARTED:
            await stream.started(key)
        assert wire.house.cancel(run.id).state == run_pb2.RUN_STATE_CANCELLING
        assert (await stream.expect("stop")).key == key
        await stream.exited(key, record(1, **words))
        done = await wire.settled(run)
        assert (done.state, done.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_USER_CANCEL)
        assert [attempt.state for attempt in done.attempts] == [state], "it was not ended by the cancel"
        await wire.quiet(stream)
        assert not stream.has("offer"), "a cancelled run was offered"


async def test_an_acceptance_that_comes_after_the_cancel_starts_nothing(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run = wire.submit()
        key = (await stream.expect("offer")).key
        assert wire.house.cancel(run.id).state == run_pb2.RUN_STATE_CANCELLED
        assert (await stream.expect("withdraw")).key == key
        await stream.send(offer_reply=pb.OfferReply(key=key, accept=True))
        assert (await stream.expect("fenced")).key == key
        assert not stream.has("assignment")


async def test_a_stop_is_told_again_with_the_next_welcome(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
    wire.house.cancel(run.id)
    inventory = [listed(key, pb.HELD_PHASE_RUNNING)]
    async with wire.runner.session(labels=labels(wire), inventory=inventory) as (_, welcome):
        (verdict,) = welcome.verdicts
        stop = (pb.VERDICT_KIND_STOP, run_pb2.REASON_USER_CANCEL)
        assert (verdict.kind, verdict.stop.reason) == stop, "a stop that was lost stays lost"


async def test_nothing_is_tried_again_while_its_tree_may_live(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream, loss=RETRY_LOST)
        await stream.exited(key, record(0, tree_empty=False, **SHIM_DIED))
        done = await wire.settled(run)
        assert (done.state, done.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_SHIM_DIED), "tried again unproven"
        assert not done.kill_confirmed, "confirmed without proof"


async def test_what_was_started_cannot_turn_out_not_started(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
        await stream.exited(key, record(0, **NOT_STARTED))
        done = await wire.settled(run)
        assert (done.state, done.reason) == (run_pb2.RUN_STATE_LOST, run_pb2.REASON_PROTOCOL_ERROR)
        assert len(done.attempts) == 1


async def test_a_tree_that_is_not_proven_empty_is_not_confirmed(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
        await stream.exited(key, record(0, tree_empty=False))
        done = await wire.settled(run)
        assert (done.state, done.kill_confirmed) == (run_pb2.RUN_STATE_SUCCEEDED, False), "confirmed without proof"


# -- lost words


async def test_an_acceptance_is_answered_by_its_assignment_until_it_is_heard(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run = wire.submit()
        key = await wire.given(stream, run)
        ack = await wire.quiet(stream, 1, listed(key, pb.HELD_PHASE_ACCEPTED))
        assert [verdict.kind for verdict in ack.verdicts] == [pb.VERDICT_KIND_START], "it would wait for ever"
        assert ack.verdicts[0].assignment.key == key
        await stream.exited(key, record(0))
        await wire.settled(run)


async def test_an_end_implies_the_beginning_that_was_lost(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run = wire.submit()
        key = await wire.given(stream, run)
        await stream.exited(key, record(3))
        done = await wire.settled(run)
        assert (done.state, done.exit_code, done.HasField("started_at")) == (run_pb2.RUN_STATE_FAILED, 3, True)


async def test_a_newer_session_ends_the_older_one(wire: Wire) -> None:
    async with wire.runner.session() as (first, _), wire.runner.session(labels=labels(wire)) as (second, _):
        assert (await wire.hears(first, "goodbye", "the older session stays")).reason == "SUPERSEDED"
        await first.gone()
        await wire.given(second, wire.submit())


# -- logs


async def test_what_overlaps_is_cut_and_what_is_missing_is_asked_for(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
        await stream.chunk(key, 0, LOG[:4])
        assert (await stream.expect("log_ack")).committed_offset == 4
        await stream.chunk(key, 2, LOG[2:6])
        assert (await stream.expect("log_ack")).committed_offset == 6, "bytes were repeated"
        await stream.chunk(key, 7, LOG[7:])
        assert (await stream.expect("log_rewind")).expected_offset == 6
        await stream.chunk(key, 6, LOG[6:])
        await stream.exited(key, record(0, LOG))
        done = await wire.settled(run)
        assert wire.house.log(run.id) == LOG, "bytes were repeated"
        assert done.attempts[0].log_complete


async def test_a_runner_may_forget_only_what_is_whole(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
        await stream.chunk(key, 0, LOG[:3])
        await stream.exited(key, record(0, LOG))
        ended = await wire.until(run, run_pb2.RUN_STATE_SUCCEEDED)
        assert not ended.HasField("settled_at")
        ack = await wire.quiet(stream, 1, listed(key, pb.HELD_PHASE_EXITED))
        assert [verdict.kind for verdict in ack.verdicts] == [pb.VERDICT_KIND_KEEP], (
            "told to forget what is missing here"
        )
        assert not stream.has("release"), "told to forget what is missing here"
        await stream.chunk(key, 3, LOG[3:])
        assert (await stream.expect("release")).key == key
        assert (await wire.settled(run)).attempts[0].log_complete
        assert wire.house.log(run.id) == LOG


async def test_a_heartbeat_that_does_not_list_an_attempt_seals_nothing(wire: Wire) -> None:
    async with wire.runner.session(labels=labels(wire)) as (stream, _):
        run, key = await wire.begun(stream)
        await stream.exited(key, record(0, LOG))
        await wire.until(run, run_pb2.RUN_STATE_SUCCEEDED)
        await wire.quiet(stream, 1)
        await wire.quiet(stream, 2)
        await stream.chunk(key, 0, LOG)
        done = await wire.settled(run)
        assert (done.attempts[0].log_complete, wire.house.log(run.id)) == (True, LOG), "sealed before it was whole"


# -- requests


async def test_a_request_id_counts_for_its_principal_alone(plane: House) -> None:
    wanted = access_pb2.Principal(name="other", kind=access_pb2.PRINCIPAL_KIND_USER, admin=True)
    plane.doors.access.CreatePrincipal(access_pb2.CreatePrincipalRequest(principal=wanted))
    token = plane.doors.access.CreateToken(access_pb2.CreateTokenRequest(principal="other")).secret
    request = run_pb2.CreateRunRequest(spec=spec(["true"], labels={"name": "nobody"}), request_id="mine")
    ours, again = plane.doors.runs.CreateRun(request), plane.doors.runs.CreateRun(request)
    theirs = plane.client(token).runs.CreateRun(request)
    assert ours.id == again.id
    assert theirs.id != ours.id, "one got the other's run"
