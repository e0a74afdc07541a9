"""Followers of one log: what several want at the same time is read once, and many of them are woken less often.

Nobody waits for a slower one: who is elsewhere reads for itself. Of all logs with several followers together a few
batches are kept, so that it does not matter how many logs those are.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from control_plane.domain.ids import AttemptKey
from control_plane.logs.store import Cursor, LogRead

Read = Callable[[AttemptKey, int, Cursor | None], Awaitable[LogRead]]

# Of 256 KiB.
KEPT_BATCHES = 32
# From so many followers on each of them lets bytes gather, the longer the more they are: their wake-ups are the cost.
FEW = 4
PAUSE_EACH_S = 0.0005
LONGEST_PAUSE_S = 0.05


class Followers:
    """Who follows which log, and the batches that they share."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._counts: Counter[AttemptKey] = Counter()
        self._batches: OrderedDict[tuple[AttemptKey, int], asyncio.Future[LogRead]] = OrderedDict()

    @contextmanager
    def following(self, key: AttemptKey) -> Iterator[None]:
        """Around the reading of one follower."""
        self._counts[key] += 1
        try:
            yield
        finally:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
                for place in [place for place in self._batches if place[0] == key]:
                    del self._batches[place]

    def pause_s(self, key: AttemptKey) -> float:
        """How long a follower that has read all there was waits before it reads on."""
        count = self._counts[key]
        return min(LONGEST_PAUSE_S, PAUSE_EACH_S * count) if count > FEW else 0.0

    async def read(self, key: AttemptKey, offset: int, cursor: Cursor | None) -> LogRead:
        """The records from there on. Raises what the read raises."""
        if self._counts[key] < 2:
            return await self._read(key, offset, cursor)
        shared = self._batches.get((key, offset))
        if shared is not None:
            await asyncio.wait({shared})
            # Nothing is no answer for who came later: bytes may have come since that read began.
            if not shared.cancelled() and (found := shared.result()).records:
                return found
            return await self._read(key, offset, cursor)
        return await self._read_for_all(key, offset, cursor)

    async def _read_for_all(self, key: AttemptKey, offset: int, cursor: Cursor | None) -> LogRead:
        promise: asyncio.Future[LogRead] = asyncio.get_running_loop().create_future()
        self._batches[key, offset] = promise
        try:
            found = await self._read(key, offset, cursor)
            promise.set_result(found)
        finally:
            # A read that failed, or whose follower left, promises nothing: the others read for themselves.
            promise.cancel()
            if promise.cancelled() or not promise.result().records or promise.result().damaged:
                self._batches.pop((key, offset), None)
        while len(self._batches) > KEPT_BATCHES:
            self._batches.popitem(last=False)
        return found
