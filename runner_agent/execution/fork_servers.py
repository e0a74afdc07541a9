"""The fork server that is used now: adopted or started when it is needed, replaced when it has died."""

from __future__ import annotations

import asyncio
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
            self._current = None

    async def get(self) -> ForkServer:
        """A living one. Raises ForkServerGone, OSError, TimeoutError."""
        async with self._lock:
            if self._current is None or not await self._current.is_alive():
                self._current = None
                self._current = await ForkServer.connect_or_spawn(self._state_dir, use_cgroups=self._use_cgroups)
            return self._current
