"""A shim that waited, and left at the very moment at which its start came."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from runner_agent.execution.line import Line
from runner_agent.execution.shim_link import AttemptStart, NothingHandedOver, Reservation, ShimLink, StepStart
from runner_agent.shim import protocol

START = AttemptStart(run_id="run", epoch=1, steps=(StepStart(argv=("true",), env={}, cwd="/"),), cookie="c")
PATIENCE_S = 30


async def test_the_attempt_is_given_to_another_one(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    told: asyncio.Future[ShimLink | Exception] = asyncio.get_running_loop().create_future()
    reservation = Reservation(tmp_path, Line(ours))
    theirs.sendall(protocol.encode_frame("ready", {**protocol.versions(), "pid": 1}))
    assert reservation.begin(START, told.set_result)
    theirs.sendall(protocol.encode_frame("refused", {"code": "BAD_START", "message": "no usable start came"}))
    theirs.close()
    async with asyncio.timeout(PATIENCE_S):
        assert isinstance(await told, NothingHandedOver)
