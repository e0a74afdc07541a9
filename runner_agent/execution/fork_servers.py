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
        self._watch: select.poll | None = None
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

    def current(self) -> ForkServer | None:
        """The one that is used, if it lives; else `get` finds another."""
        return self._current if self._lives() else None

    async def get(self, *, instead_of: ForkServer | None = None) -> ForkServer:
        """A living one; not `instead_of`, which did not answer. Raises ForkServerGone, OSError, TimeoutError."""
        current = self.current()
        if current is not None and current is not instead_of:
            return current
        async with self._lock:
            if self._current is None or self._current is instead_of or not self._lives():
                self._forget()
                found = await ForkServer.connect_or_spawn(self._state_dir, use_cgroups=self._use_cgroups)
                self._hold = found.hold()
                self._pidfd = os.pidfd_open(found.pid)
                self._watch = select.poll()  # not select(): descriptors may be above 1023
                self._watch.register(self._pidfd, select.POLLIN)
                self._current = found
            return self._current

    def _lives(self) -> bool:
        """Asked before every fork, so it must cost nothing: a pidfd is readable once its process has ended."""
        return self._watch is not None and not self._watch.poll(0)

    def _forget(self) -> None:
        self._current = None
        for descriptor in (self._pidfd, self._hold):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = self._hold = self._watch = None
