"""What is made ready for an attempt while its acceptance goes to disk and is told: a shim that waits, a workspace.

Nothing is executed by that, and nothing is lost if it fails or is not needed: it is made later, or removed, as if
nobody had tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from runner_agent.domain.assignment import Assignment
from runner_agent.domain.exit_report import ExitReport
from runner_agent.execution.journal import Notes
from runner_agent.execution.preparation import prepare
from runner_agent.execution.room import Room
from runner_agent.execution.shim_link import Reservation
from runner_agent.telemetry import logger


class Ahead:
    """One attempt's. `begin` it with the acceptance, `go_on` when that is on disk; the first order then ends it."""

    def __init__(self, room: Room, directory: Path) -> None:
        self._room = room
        self._directory = directory
        self._wanted = False
        self._reserved: Reservation | None = None
        self._workspace_made = False

    def begin(self, *, usual: bool) -> None:
        """The shim goes there while the acceptance is synced. `usual`: the run directory is all that it consists of."""
        self._wanted = True
        if usual:
            self._try(self._reserve)

    def go_on(self) -> None:
        """Soon: behind what is said of the acceptance, which the control plane waits for."""
        asyncio.get_running_loop().call_soon(self._make_ready)

    def end(self) -> None:
        """Something was ordered: begin nothing more."""
        self._wanted = False

    def _make_ready(self) -> None:
        if self._wanted:
            self._try(self._make_workspace)
        if self._wanted and self._reserved is None:
            self._try(self._reserve)

    def _reserve(self) -> None:
        """If the power fails now, the directory may be there that nobody was told of, which is harmless."""
        fork_server = self._room.fork_servers.current()
        if fork_server is not None:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._reserved = fork_server.reserve(self._directory)

    def _make_workspace(self) -> None:
        self._room.workspaces.make(self._directory.name)
        self._workspace_made = True

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
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
