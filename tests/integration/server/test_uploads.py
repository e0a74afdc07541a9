"""What a runner uploads of an attempt, over real gRPC: cut and resumed, held to its limits, only by its holder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from banksman.v1 import artifact_pb2, run_pb2, spec_pb2
from banksman.v1 import session_pb2 as pb

from tests.fakes.runner import ScriptedRunner, Stream, exit_record
from tests.fakes.server import Server, log_digest
from tests.fakes.uploads import Upload
from tests.waiting import wait_for_async

FILE_BYTES, RUN_BYTES, FILES = 1_000, 1_500, 3
WANTED = [spec_pb2.ArtifactPattern(path="*")]
LOG = b"line\n"
NOT_FOUND, ABORTED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED
INVALID, EARLY = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    limits = {"artifact_file_bytes": FILE_BYTES, "artifact_run_bytes": RUN_BYTES, "artifact_files": FILES}
    made = Server(tmp_path / "state", **limits)
    await made.start()
    yield made
    await made.close()


@asynccontextmanager
async def over(server: Server, **words: Any) -> AsyncIterator[tuple[ScriptedRunner, Stream, Any]]:
    """An attempt that is over, its log whole, its artifacts not there yet."""
    runner = await server.runner()
    async with runner.session() as (stream, _):
        await server.doors().submit("true", spec={"artifacts": WANTED, **words})
        key = (await stream.accept()).key
        await stream.started(key)
        await stream.chunk(key, 0, LOG)
        await stream.exited(key, exit_record(log=LOG, digest=log_digest(LOG)))
        await server.doors().until(key.run_id, run_pb2.RUN_STATE_SUCCEEDED)
        yield runner, stream, key


async def stored(server: Server, run: str) -> dict[str, int]:
    answer = await server.doors().runs.ListArtifacts(artifact_pb2.ListArtifactsRequest(run=run))
    return {each.name: each.size_bytes for each in answer.artifacts}


async def downloaded(server: Server, run: str, name: str, offset: int = 0) -> bytes:
    request = artifact_pb2.DownloadArtifactRequest(run=run, artifact=name, offset=offset)
    return b"".join([item.data async for item in server.doors().runs.DownloadArtifact(request)])


async def refused(awaited: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaited
    return caught.value.code()


async def test_a_run_settles_when_its_files_are_there(server: Server) -> None:
    async with over(server) as (runner, stream, key):
        upload = Upload(runner)
        kind, wanted = await upload.open(key)
        assert (kind, [each.path for each in wanted.artifacts]) == ("wanted", ["*"])
        assert (wanted.max_file_bytes, wanted.max_total_bytes, wanted.max_files) == (FILE_BYTES, RUN_BYTES, FILES)
        run = await server.doors().run(key.run_id)
        assert (run.state, run.HasField("settled_at")) == (run_pb2.RUN_STATE_SUCCEEDED, False)
        assert run.attempts[0].HasField("artifacts_due_at")
        held = pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_EXITED, exit=exit_record(log=LOG, digest=log_digest(LOG)))
        (verdict,) = (await stream.heartbeat(1, held)).verdicts
        assert verdict.kind == pb.VERDICT_KIND_KEEP
        assert await upload.put("a/b.txt", b"hello") == "stored"
        assert await upload.put("empty", b"") == "stored"
        assert (await upload.ask(finish=pb.UploadFinish(notes=["nothing matches 'x'"])))[0] == "finished"
        run = await server.doors().settled(key.run_id)
        assert not run.attempts[0].HasField("artifacts_due_at")
        assert (await stream.expect("release")).key == key
        (verdict,) = (await stream.heartbeat(2, held)).verdicts
        assert verdict.kind == pb.VERDICT_KIND_RELEASE
    assert await stored(server, key.run_id) == {"a/b.txt": 5, "empty": 0}
    assert await downloaded(server, key.run_id, "a/b.txt", 2) == b"llo"
    assert await downloaded(server, key.run_id, "empty") == b""
    events = await server.doors().runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=key.run_id))
    assert "artifacts: nothing matches 'x'" in [event.note for event in events.events]
    assert (await Upload(runner).open(key))[0] == "finished"


async def test_it_goes_on_where_it_was_cut(server: Server) -> None:
    data = bytes(range(100)) * 9
    async with over(server) as (runner, _, key):
        first = Upload(runner)
        await first.open(key)
        assert (await first.begin("f", data))[1].offset == 0
        assert (await first.chunk(0, data[:500]))[1].offset == 500
        first.call.cancel()
        assert await stored(server, key.run_id) == {}, "what is not whole is not seen"
    await server.stop()
    await server.start()
    second = Upload(runner)
    await second.open(key)
    kind, answer = await second.begin("f", data)
    assert (kind, answer.offset) == ("offset", 500)
    assert (await second.chunk(500, data[500:]))[0] == "stored"
    assert (await second.begin("f", data))[0] == "stored", "once more: it is there"
    await second.ask(finish=pb.UploadFinish())
    assert await stored(server, key.run_id) == {"f": 900}
    assert await downloaded(server, key.run_id, "f") == data
    await server.doors().settled(key.run_id)


async def test_what_was_damaged_or_changed_begins_anew(server: Server) -> None:
    data = b"x" * 900
    async with over(server) as (runner, _, key):
        upload = Upload(runner)
        await upload.open(key)
        await upload.begin("f", data)
        await upload.chunk(0, data[:500])
        (part,) = (path for path in (server.state / "artifacts").rglob("*") if path.is_file())
        part.write_bytes(b"?" * 500)
        kind, answer = await upload.chunk(500, data[500:])
        assert (kind, answer.offset) == ("offset", 0)
        assert (await upload.chunk(0, data))[0] == "stored"
        assert "other bytes" in await upload.put("f", b"y")
        kind, answer = await upload.begin("g", b"123", sha256="0" * 64)
        assert (await upload.chunk(0, b"123"))[1].offset == 0
        assert "announced" in (await upload.chunk(0, b"123"))[1].why
        await upload.begin("h", b"first")
        assert await upload.put("h", b"second") == "stored", "what was begun with other bytes is replaced"
        await upload.begin("i", b"never ends")
        await upload.ask(finish=pb.UploadFinish())
    assert await stored(server, key.run_id) == {"f": 900, "h": 6}
    assert len([path for path in (server.state / "artifacts").rglob("*") if path.is_file()]) == 2


async def test_limits_hold_at_the_limit_and_one_above(server: Server) -> None:
    async with over(server) as (runner, _, key):
        upload = Upload(runner)
        await upload.open(key)
        assert "may have" in await upload.put("large", b"x" * (FILE_BYTES + 1))
        assert await upload.put("large", b"x" * FILE_BYTES) == "stored"
        assert "allowed" in await upload.put("more", b"x" * (RUN_BYTES - FILE_BYTES + 1))
        assert await upload.put("more", b"x" * (RUN_BYTES - FILE_BYTES)) == "stored"
        assert await upload.put("third", b"") == "stored"
        assert "already" in await upload.put("fourth", b"")
    names = {"large", "more", "third"}
    assert set(await stored(server, key.run_id)) == names


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\n", "x" * 1_025])
async def test_a_name_that_leads_elsewhere_is_refused(server: Server, name: str) -> None:
    async with over(server) as (runner, _, key):
        upload = Upload(runner)
        await upload.open(key)
        assert "plain relative path" in await upload.put(name, b"1")
        assert await upload.put("x" * 1_024, b"1") == "stored"


async def test_only_its_holder_may_upload_and_only_the_newest_call(server: Server) -> None:
    stranger = await server.runner("host-2")
    async with over(server) as (runner, _, key):
        assert await refused(Upload(stranger).open(key)) is NOT_FOUND
        assert await refused(Upload(runner).open(key, "another directory")) is NOT_FOUND
        unknown = pb.AttemptKey(run_id=key.run_id, lease_epoch=key.lease_epoch + 1)
        assert await refused(Upload(runner).open(unknown)) is NOT_FOUND
        older, newer = Upload(runner), Upload(runner)
        await older.open(key)
        await newer.open(key)
        assert await refused(older.begin("a", b"1")) is ABORTED
        assert await newer.put("a", b"1") == "stored"


async def test_what_makes_no_sense_is_refused(server: Server) -> None:
    async with over(server) as (runner, _, key):
        assert await refused(Upload(runner).begin("a", b"1")) is INVALID
        for offset, data in ((1, b"1"), (0, b""), (0, b"123456")):
            upload = Upload(runner)
            await upload.open(key)
            await upload.begin("a", b"12345")
            assert await refused(upload.chunk(offset, data)) is INVALID, (offset, data)
        upload = Upload(runner)
        await upload.open(key)
        assert await refused(upload.chunk(0, b"1")) is INVALID
    assert await stored(server, key.run_id) == {}


async def test_before_its_end_is_known_nothing_is_taken(server: Server) -> None:
    runner = await server.runner()
    async with runner.session() as (stream, _):
        await server.doors().submit("true", spec={"artifacts": WANTED})
        key = (await stream.accept()).key
        await stream.started(key)
        await server.doors().until(key.run_id, run_pb2.RUN_STATE_RUNNING)
        assert await refused(Upload(runner).open(key)) is EARLY


async def test_what_never_ran_leaves_nothing_to_wait_for(server: Server) -> None:
    runner = await server.runner()
    async with runner.session() as (stream, _):
        await server.doors().submit("true", spec={"artifacts": WANTED})
        key = (await stream.accept()).key
        await stream.exited(key, exit_record(1, outcome=pb.EXIT_OUTCOME_START_FAILED, permanent=True))
        await server.doors().settled(key.run_id)


async def test_downloads_are_checked(server: Server) -> None:
    async with over(server) as (runner, _, key):
        upload = Upload(runner)
        await upload.open(key)
        await upload.put("f", b"12345")
    assert await downloaded(server, key.run_id, "f", 5) == b""
    assert await refused(downloaded(server, key.run_id, "f", 6)) is grpc.StatusCode.OUT_OF_RANGE
    assert await refused(downloaded(server, key.run_id, "f", -1)) is INVALID
    assert await refused(downloaded(server, key.run_id, "g")) is NOT_FOUND


async def test_a_run_that_is_deleted_meanwhile_leaves_nothing(server: Server) -> None:
    async with over(server) as (runner, stream, key):
        upload = Upload(runner)
        await upload.open(key)
        await upload.put("whole", b"123")
        await upload.begin("part", b"1234")
        await upload.chunk(0, b"12")
        await server.doors().runs.DeleteRun(run_pb2.DeleteRunRequest(run=key.run_id))
        files = server.state / "artifacts"

        async def gone() -> bool:
            return not any(path.is_file() for path in files.rglob("*"))

        await wait_for_async(gone, what="its files are gone")
        assert await refused(upload.chunk(2, b"34")) in (ABORTED, NOT_FOUND)
        assert await refused(Upload(runner).open(key)) is NOT_FOUND
        held = pb.HeldAttempt(key=key, phase=pb.HELD_PHASE_EXITED, exit=exit_record(log=LOG, digest=log_digest(LOG)))
        (verdict,) = (await stream.heartbeat(1, held)).verdicts
        assert verdict.kind == pb.VERDICT_KIND_RELEASE
        assert await gone()
