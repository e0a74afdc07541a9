"""What is made ready for an attempt while the control plane hears of its acceptance: a shim that waits, a workspace.

Nothing is executed by that, and nothing is lost if it fails or is not needed: it is made later, or removed, as if
nobody had tried.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from runner_agent.domain.assignment import Assignment
from runner_agent.domain.exit_report import ExitReport
from runner_agent.execution.journal import Notes
from runner_agent.execution.preparation import prepare
from runner_agent.execution.room import Room
from runner_agent.execution.shim_link import Reservation
from runner_agent.telemetry import logger


class Ahead:
    """One attempt's. `begin` it when the attempt is accepted; the first order after that ends it."""

    def __init__(self, room: Room, directory: Path) -> None:
        self._room = room
        self._directory = directory
        self._wanted = False
        self._reserved: Reservation | None = None
        self._workspace_made = False

    def begin(self) -> None:
        """Soon: behind what is said of the acceptance, which the control plane waits for."""
        self._wanted = True
        asyncio.get_running_loop().call_soon(self._make_ready)

    def end(self) -> None:
        """Something was ordered: begin nothing more."""
        self._wanted = False

    def _make_ready(self) -> None:
        fork_server = self._room.fork_servers.current()
        if not self._wanted or fork_server is None:
            return
        try:
            self._reserved = fork_server.reserve(self._directory)
            self._room.workspaces.make(self._directory.name)
            self._workspace_made = True
        except OSError as error:
            logger("execution").debug("not_made_ready", run=self._directory.name, error=str(error))

    def take_shim(self) -> Reservation | None:
        """The shim that waits, if there is one."""
        reserved, self._reserved = self._reserved, None
        return reserved

    def drop_shim(self) -> bool:
        """Whether a shim was waiting. It leaves; until then it holds the run directory."""
        self.end()
        reserved = self.take_shim()
        if reserved is not None:
            reserved.close()
        return reserved is not None

    def prepare(self, assignment: Assignment, notes: Notes) -> ExitReport | None:
        """What is still missing before the fork; how it failed, else None. Blocks on the disk."""
        made, self._workspace_made = self._workspace_made, False
        return prepare(self._directory, self._room.workspaces, assignment, notes, made=made)
