"""What is done to logs in quiet moments: sealed ones are compressed, old ones and those beyond the quota removed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from control_plane.domain.ids import AttemptKey
from control_plane.domain.logs import LogSegment
from control_plane.logs.files import FileLogStore
from control_plane.logs.ledger import LogLedger
from control_plane.logs.store import LogDamaged
from control_plane.telemetry import logger

log = logger("logs")

AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRetention:
    """Sealed logs of settled runs are kept so long, and so many bytes of them in all.

    A log whose runner stays away for so long is sealed as it is.
    """

    keep_s: float = 30 * 86_400.0
    keep_bytes: int = 50 << 30


class LogHousekeeping:
    """Runs its parts one after another, each in bounded pieces, in threads."""

    def __init__(
        self,
        *,
        ledger: LogLedger,
        store: FileLogStore,
        take_sealed: Callable[[], Iterable[AttemptKey]],
        give_up: Callable[[AttemptKey], Awaitable[None]],
        retention: LogRetention | None = None,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._take_sealed = take_sealed
        self._give_up = give_up
        self._retention = retention or LogRetention()
        self._looked_once = False

    async def compress(self) -> int:
        """Compress what was sealed since the last call; the first call also finds what a restart forgot.

        Raises BanksmanError.
        """
        keys = list(self._take_sealed())
        if not self._looked_once:
            self._looked_once = True
            keys += await asyncio.to_thread(self._store.uncompressed)
        done = 0
        for key in keys:
            try:
                before = await asyncio.to_thread(self._store.segments, key)
                if await asyncio.to_thread(self._store.compress, key):
                    await self._note_size(key, before)
                    done += 1
            except LogDamaged:
                log.error("a stored log has changed on disk; it is kept as it is", run=key.run_id)
            except OSError as error:
                log.warning("a log could not be compressed", run=key.run_id, error=str(error))
        return done

    async def _note_size(self, key: AttemptKey, before: tuple[LogSegment, ...]) -> None:
        """The first segment's row stands for the archive, the others take nothing any more."""
        after = sum(segment.stored_bytes for segment in await asyncio.to_thread(self._store.segments, key))
        sizes = [after, *(0 for _ in before[1:])]
        rows = [replace(segment, stored_bytes=size) for segment, size in zip(before, sizes, strict=True)]
        await self._ledger.resized(key, rows)

    async def remove_old(self) -> int:
        """Remove logs that are too old, then the oldest of those that are too many. Raises BanksmanError, OSError."""
        for key in await self._ledger.abandoned(self._retention.keep_s, AT_ONCE):
            await self._give_up(key)
        removed = 0
        while keys := await self._ledger.expired(self._retention.keep_s, AT_ONCE):
            removed += await self._remove(keys)
        excess = await self._ledger.stored_bytes() - self._retention.keep_bytes
        while excess > 0:
            chosen: list[AttemptKey] = []
            for key, stored_bytes in await self._ledger.oldest(AT_ONCE):
                if excess <= 0:
                    break
                chosen.append(key)
                excess -= stored_bytes
            if not chosen:
                break
            removed += await self._remove(chosen)
        return removed

    async def _remove(self, keys: Iterable[AttemptKey]) -> int:
        """Bytes first: a crash in between leaves a log that is removed again."""
        keys = tuple(keys)
        for key in keys:
            await asyncio.to_thread(self._store.delete, key)
        await self._ledger.deleted(keys)
        return len(keys)
