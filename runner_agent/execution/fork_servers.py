"""The fork server that is used now: adopted or started when it is needed, replaced when it has died."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path

from runner_agent.execution.shim_link import ForkServer, ShimRefused
from runner_agent.shim.codec import BadMessage
from runner_agent.telemetry import logger


class ForkServers:
    """Gives out a fork server that answers."""

    def __init__(self, state_dir: Path, *, use_cgroups: bool) -> None:
        self._state_dir = state_dir
        self._use_cgroups = use_cgroups
        self._current: ForkServer | None = None
        self._pidfd: int | None = None
        # Open as long as this agent lives: a fork server without an agent leaves.
        self._hold: int | None = None
        self._lock = asyncio.Lock()
        self._log = logger("fork_servers")

    async def retire(self) -> None:
        """Nothing more will be started: let it leave with its last shim."""
        async with self._lock:
            if self._current is None:
                return
            try:
                await self._current.retire()
            except (OSError, TimeoutError, ShimRefused, BadMessage) as error:
                self._log.warning("fork_server_not_retired", error=str(error))
            self._forget()

    async def get(self) -> ForkServer:
        """A living one. Raises ForkServerGone, OSError, TimeoutError."""
        if self._current is not None and self._lives():
            return self._current
        async with self._lock:
            if self._current is None or not self._lives():
                self._forget()
                found = await ForkServer.connect_or_spawn(self._state_dir, use_cgroups=self._use_cgroups)
                self._hold = found.hold()
                self._pidfd = os.pidfd_open(found.pid)
                self._current = found
            return self._current

    def _lives(self) -> bool:
        """Asked before every fork, so it must cost nothing: a pidfd is readable once its process has ended."""
        return self._pidfd is not None and not _ended(self._pidfd)

    def _forget(self) -> None:
        self._current = None
        for descriptor in (self._pidfd, self._hold):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = self._hold = None


def _ended(pidfd: int) -> bool:
    waiting = select.poll()  # not select(): descriptors may be above 1023
    waiting.register(pidfd, select.POLLIN)
    return bool(waiting.poll(0))
