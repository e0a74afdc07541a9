"""The connection comes back after a session that broke on a mistake of the agent's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from runner_agent.clock import SystemClock
from runner_agent.domain.log import LogChunk
from runner_agent.domain.log_flow import LogTurn
from runner_agent.domain.messages import Hello, ServerMessage
from runner_agent.outbox import Outbox
from runner_agent.session.connection import Connection
from runner_agent.session.enrolment import Enrolment
from tests.fakes.control_plane import FakeControlPlane

HELLO = Hello(
    protocol_min=1,
    protocol_max=1,
    agent_version="0",
    capabilities=(),
    labels={},
    slots=1,
    boot_id="b",
    state_directory_id="d",
    inventory=(),
    more=False,
    warnings=(),
    draining=False,
)


class Clumsy:
    """A host that stumbles over the first message of its first session."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.welcomed = asyncio.Event()

    async def session_opened(self, outbox: Outbox) -> None:
        self.opened += 1
        outbox.put(HELLO)

    async def session_closed(self, reason: str) -> None:
        self.closed += 1

    async def received(self, message: ServerMessage) -> None:
        if self.opened == 1:
            raise LookupError("a mistake")
        self.welcomed.set()

    async def read_log(self, turn: LogTurn) -> LogChunk | None:
        return None


async def test_a_session_that_breaks_is_followed_by_another(plane: FakeControlPlane, tmp_path: Path) -> None:
    clock, host = SystemClock(), Clumsy()
    enrolment = Enrolment(
        path=tmp_path / "credential",
        clock=clock,
        name="r-1",
        labels={},
        join_token=lambda: "join-1",
        replace_name=False,
    )
    connection = Connection(
        server=plane.url, insecure=False, enrolment=enrolment, host=host, clock=clock, chance=lambda: 0.0
    )
    async with asyncio.TaskGroup() as group:
        going = group.create_task(connection.run(), name="connection")
        async with asyncio.timeout(30):
            await host.welcomed.wait()
        connection.stop()
        going.cancel()
    assert (host.opened, host.closed) == (2, 2)
