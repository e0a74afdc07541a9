"""An attempt whose shim cannot be understood: it is looked at again now and then, and can be stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.domain.outputs import StopTree
from runner_agent.domain.reason import Reason
from runner_agent.execution import execution
from runner_agent.execution.execution import Execution
from runner_agent.execution.room import Room
from runner_agent.execution.run_directory import Entry, Standing
from runner_agent.execution.shim_link import ShimLink
from runner_agent.shim import protocol
from runner_agent.shim.codec import BadMessage
from runner_agent.workspace.workspaces import Workspaces

KEY = AttemptKey(run_id=RunId("run"), lease_epoch=1)
TURNS = 100
PATIENCE_S = 30


class Link:
    """Of a shim that lives and says what this version does not know."""

    def close(self) -> None:
        """Nothing to close."""


class Found(Execution):
    """Knows that its shim lives."""

    async def _look(self) -> Entry | None:
        return Entry(path=self.directory, run_id="run", epoch=1, standing=Standing.LIVE, details={})


class Misunderstanding(Found):
    """Attaches well, and then hears what cannot be understood."""

    attached = 0

    async def _attach(self) -> bool:
        self.attached += 1
        self._not_understood(cast(ShimLink, Link()), BadMessage("unknown value"))
        return True


def room_in(path: Path) -> Room:
    state = SimpleNamespace(path_of=lambda run_id, epoch: path / f"{run_id}.{epoch}")
    return cast(Room, SimpleNamespace(state=state, workspaces=Workspaces(path)))


async def test_a_shim_that_is_not_understood_is_not_asked_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "LONGEST_PAUSE_S", 1_000.0)
    async with asyncio.TaskGroup() as tasks:
        attempt = Misunderstanding(KEY, room_in(tmp_path), tasks, lambda _: None, found=lambda _: None)
        attempt.adopt(attach=True, over=None)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        attempt.abandon()
    assert attempt.attached == 1


async def test_a_shim_that_is_not_understood_can_be_stopped(tmp_path: Path) -> None:
    asked: list[object] = []
    over = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attached = {**protocol.versions(), "pid": 1, "offset": 0}
        writer.write(protocol.encode_frame("attached", attached) + protocol.encode_frame("exited", {"record": "new"}))
        frames = protocol.FrameBuffer()
        while data := await reader.read(1 << 16):
            frames.feed(data)
            while (frame := frames.next_frame()) is not None:
                asked.append(frame["type"])
        writer.close()
        over.set()

    (tmp_path / "run.1").mkdir()
    async with (
        await asyncio.start_unix_server(speak, tmp_path / "run.1" / "control"),
        asyncio.timeout(PATIENCE_S),
        asyncio.TaskGroup() as tasks,
    ):
        attempt = Found(KEY, room_in(tmp_path), tasks, lambda _: None, found=lambda _: None)
        attempt.do(StopTree(key=KEY, reason=Reason.USER_CANCEL, signal="SIGTERM", grace_s=1.0))
        attempt.adopt(attach=True, over=None)
        await over.wait()
        attempt.abandon()
    assert asked == ["attach", "stop"]
