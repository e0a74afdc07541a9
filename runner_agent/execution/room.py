"""What all attempts of a host share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from runner_agent.domain.events import Event
from runner_agent.domain.ids import AttemptKey
from runner_agent.execution.batches import Batches
from runner_agent.execution.fork_servers import ForkServers
from runner_agent.execution.removal import Leftover, Removed
from runner_agent.execution.run_directory import Acceptance, StateDirectory
from runner_agent.workspace.workspaces import Workspaces

SETTLING_THREADS = 4
REMOVING_THREADS = 2
P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """Threads of their own for what may take long, so that an acceptance never waits behind it."""

    def __init__(self) -> None:
        self._settling = ThreadPoolExecutor(SETTLING_THREADS, thread_name_prefix="settling")
        self._removing = ThreadPoolExecutor(REMOVING_THREADS, thread_name_prefix="removing")

    async def settle(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Find out how an attempt stands: up to ten seconds for what a dead shim has left."""
        return await self._run(self._settling, call, *args, **kwargs)

    async def remove(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Remove a workspace, however large."""
        return await self._run(self._removing, call, *args, **kwargs)

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself, and the next start sweeps what is left."""
        for pool in (self._settling, self._removing):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: call(*args, **kwargs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The state directory, its workspaces, the fork server, and where events go."""

    state: StateDirectory
    workspaces: Workspaces
    fork_servers: ForkServers
    threads: Threads
    post: Callable[[Event], None]
    # Acceptances, and run directories to be removed, each together with what waits beside it.
    journal: Batches[Acceptance, OSError | None]
    removal: Batches[Leftover, Removed]
    # Uploads what an attempt has left in its workspace; returns when the server wants no more of it.
    upload: Callable[[AttemptKey, Path], Awaitable[None]]
    runner_name: str
    boot_id: str
    base_env: Mapping[str, str] = field(repr=False)
