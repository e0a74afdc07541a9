"""What waits to be written to one stream: control before logs, and never more bytes than the bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

M = TypeVar("M")


class Outbox(Generic[M]):
    """Two lanes with one reader.

    Args:
        limit_bytes: the most that may wait in both lanes together.
        weigh: size of a message in bytes.
    """

    def __init__(self, *, limit_bytes: int, weigh: Callable[[M], int]) -> None:
        self._limit_bytes, self._weigh = limit_bytes, weigh
        self._control: deque[tuple[M, int]] = deque()
        self._logs: deque[tuple[M, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        """Bytes in both lanes."""
        return self._bytes

    def put(self, message: M, *, log: bool = False) -> bool:
        """Queue a message; False when it does not fit or the outbox is closed, and then it is not queued.

        Into an empty outbox a message of any size fits: a Welcome may be larger than the bound.
        """
        size = self._weigh(message)
        if self._closed or (self._bytes and self._bytes + size > self._limit_bytes):
            return False
        self._bytes += size
        (self._logs if log else self._control).append((message, size))
        self._changed.set()
        return True

    def close(self, last: M | None = None) -> None:
        """Take no more; what waits is dropped if a last message is given, which then goes out alone."""
        if self._closed:
            return
        self._closed = True
        if last is not None:
            self._control.clear()
            self._logs.clear()
            self._control.append((last, 0))
        self._changed.set()

    async def take(self) -> M | None:
        """The next message, control first; None once the outbox is closed and empty."""
        while not self._control and not self._logs:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        message, size = (self._control or self._logs).popleft()
        self._bytes -= size
        return message
