"""Work in turns: in order for each key, side by side for different keys, and bounded in all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable

from control_plane.domain.errors import BanksmanError
from control_plane.telemetry import logger

log = logger("dispatch")

Turn = Callable[[], Awaitable[None]]


class Turns:
    """Runs what one session asks for, so that verbs of different runs share a commit.

    A turn that fails is logged and counts as a lost message: every message may be lost, the next heartbeat heals it.

    Args:
        group: owns the tasks; one per key that has something to do, none when idle.
        most: how many turns may wait or run; `take` waits for room, which stops the reading of the stream.
    """

    def __init__(self, group: asyncio.TaskGroup, *, name: str, most: int = 64) -> None:
        self._group, self._name = group, name
        self._room = asyncio.Semaphore(most)
        self._waiting: dict[Hashable, deque[Turn]] = {}

    async def take(self, key: Hashable, turn: Turn) -> None:
        """Queue a turn behind the others of its key."""
        await self._room.acquire()
        queue = self._waiting.get(key)
        if queue is not None:
            queue.append(turn)
            return
        self._waiting[key] = deque([turn])
        self._group.create_task(self._run(key), name=f"{self._name} {key}")

    async def _run(self, key: Hashable) -> None:
        queue = self._waiting[key]
        while queue:
            turn = queue.popleft()
            try:
                await turn()
            except BanksmanError as error:
                log.warning("a message of a runner was not taken", session=self._name, key=str(key), error=str(error))
            except Exception:  # one bad message must not end the session, let alone others
                log.exception("a message of a runner failed", session=self._name, key=str(key))
            finally:
                self._room.release()
        del self._waiting[key]
