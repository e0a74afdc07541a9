"""`banksman-server restored`: generations only grow, and offers wait for the runners afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from banksman.v1 import session_pb2 as pb

from control_plane.__main__ import main
from tests.fakes.runner import Stream
from tests.fakes.server import Doors, Server

Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Call the verb on the server's state directory: exit code, and what it said."""

    def said(*more: str) -> tuple[int, str]:
        code = main(["restored", "--state-dir", str(tmp_path / "state"), *more])
        told = capsys.readouterr()
        return code, told.out + told.err

    return said


async def test_generations_only_grow_and_end_somewhere(server: Server, say: Say) -> None:
    in_use = await asyncio.to_thread(say)
    assert in_use[0] == 1
    assert "in use" in in_use[1]
    await server.stop()
    assert "generation 1 on" in (await asyncio.to_thread(say))[1]
    assert "generation 2 on" in (await asyncio.to_thread(say))[1]
    assert "generation 8 on" in (await asyncio.to_thread(say, "--above", "7"))[1]
    code, told = await asyncio.to_thread(say, "--above", "32767")
    assert code == 1
    assert "32768" in told


async def test_a_directory_without_a_database_is_refused(say: Say) -> None:
    code, told = await asyncio.to_thread(say)
    assert code == 1
    assert "no database" in told


async def test_after_a_restore_offers_wait_until_every_runner_has_told(server: Server, doors: Doors, say: Say) -> None:
    here, away = await server.runner("here"), await server.runner("away")
    run = await doors.submit()
    await server.stop()
    assert (await asyncio.to_thread(say))[0] == 0
    await server.start()
    async with here.session() as (stream, _):
        await stream.heartbeat(1)
        assert not stream.has("offer")
        assert "restored" in (await doors.run(run.id)).waiting_because
        held = pb.HeldAttempt(key=pb.AttemptKey(run_id=run.id, lease_epoch=9), phase=pb.HELD_PHASE_RUNNING)
        async with away.session(inventory=[held]) as (other, welcome):
            assert [verdict.kind for verdict in welcome.verdicts] == [pb.VERDICT_KIND_UNKNOWN]
            await stream.heartbeat(2)
            assert not stream.has("offer")
            await other.heartbeat(1)  # the entry is gone
            offer = await _offered(stream, other)
    assert offer.key.lease_epoch > 1 << 48


async def _offered(*streams: Stream) -> Any:
    waiting = [asyncio.ensure_future(stream.expect("offer")) for stream in streams]
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for each in left:
        each.cancel()
    return done.pop().result()
