"""Group commit: while one commit is on its way to the disk, the next one collects. One thread writes.

The first bytes after a pause are committed at once; while bytes keep coming, commits are some milliseconds apart or
twice as large as the one before, so that many small ones do not cost an fsync, an acknowledgement and a wake-up each.
Nothing is acknowledged before it is durable, so a crash while bytes gather costs only that they are sent again.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from control_plane.domain.ids import AttemptKey
from control_plane.domain.log import LogRecord
from control_plane.domain.session import LogRewind
from control_plane.logs.store import LogSealed, LogStore
from control_plane.logs.streams import RECORD_COST_BYTES, IngestSettings, Stream, Streams, cost
from control_plane.telemetry import logger

T = TypeVar("T")

log = logger("logs")

GATHER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a commit adds to one log."""

    key: AttemptKey
    offset: int
    records: tuple[LogRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The log's committed end; `refused` says why the piece could not be added."""

    end: int
    refused: Exception | None = None


def write(store: LogStore, pieces: Sequence[Piece]) -> dict[AttemptKey, Written]:
    """Write all pieces and make them durable together.

    Raises OSError when the disk failed: then nothing of them counts, and the same pieces may be tried again. Neither
    does it after any other error.
    """
    refused: dict[AttemptKey, Exception] = {}
    keys = [piece.key for piece in pieces]
    try:
        for piece in pieces:
            try:
                store.append(piece.key, piece.offset, piece.records)
            except (LogSealed, ValueError) as error:
                refused[piece.key] = error
        store.sync(keys)
    except Exception:
        store.rollback(keys)
        raise
    return {key: Written(end=store.end(key), refused=refused.get(key)) for key in keys}


class Committer:
    """The commit loop and its thread."""

    def __init__(
        self,
        *,
        store: LogStore,
        streams: Streams,
        settings: IngestSettings,
        committed: Callable[[Stream, Written], None],
    ) -> None:
        self._store = store
        self._streams = streams
        self._settings = settings
        self._committed = committed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-writer")
        self._ready: dict[AttemptKey, Stream] = {}
        self._turned_away: dict[AttemptKey, Stream] = {}
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._failing = False
        self._enough = asyncio.Event()
        self._enough_bytes = 0
        self._began_s = -math.inf

    async def in_thread(self, body: Callable[[], T]) -> T:
        """Run `body` in the thread that writes, behind what it is doing."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, body)

    def add(self, stream: Stream) -> None:
        """The stream has something to write, or to be asked for again."""
        (self._turned_away if stream.turned_away else self._ready)[stream.key] = stream
        if stream.queue:
            self._ready[stream.key] = stream
        self._wake.set()
        if self._streams.held_bytes >= self._enough_bytes:
            self._enough.set()

    async def run(self) -> None:
        """Commit until `close`; what was added before is still committed, unless the disk fails."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                await self._gather()
                batch = self._take()
                if batch and not await self._commit(batch):
                    return
                self._ask_again()
            self._ask_again()
            if self._closing.is_set():
                return

    def close(self) -> None:
        """Let `run` end."""
        self._closing.set()
        self._enough.set()
        self._wake.set()

    def shut(self) -> None:
        """Give the thread back; `in_thread` is over."""
        self._thread.shutdown()

    async def _gather(self) -> None:
        """Wait for more while the commit before began only just now, unless enough has come for one."""
        loop = asyncio.get_running_loop()
        left_s = self._began_s + self._settings.gather_s - loop.time()
        if left_s > 0 and self._streams.held_bytes < self._enough_bytes and not self._closing.is_set():
            self._enough.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._enough.wait()
        self._began_s = loop.time()
        self._enough_bytes = min(self._settings.commit_bytes, max(GATHER_BYTES, 2 * self._streams.held_bytes))

    def _take(self) -> list[tuple[Stream, Piece]]:
        """The next commit: from each stream in turn, until it is large enough. What is left goes with the one after.

        Senders are acknowledged while the rest of their window is still on its way, so that nobody waits for nobody.
        """
        batch: list[tuple[Stream, Piece]] = []
        room = self._settings.commit_bytes
        for key in list(self._ready):
            if room <= 0:
                break
            stream = self._ready.pop(key)
            records: list[LogRecord] = []
            while stream.queue and room > 0:
                record = stream.queue.popleft()
                records.append(record)
                room -= len(record.data) + RECORD_COST_BYTES
            if records:
                stream.committing = True
                batch.append((stream, Piece(key=key, offset=stream.committed, records=tuple(records))))
            if stream.queue:
                self._ready[key] = stream
        return batch

    async def _commit(self, batch: list[tuple[Stream, Piece]]) -> bool:
        """Write one batch, however long the disk refuses it; False when that was given up because of `close`."""
        pieces = [piece for _, piece in batch]
        while True:
            try:
                results = await self.in_thread(partial(write, self._store, pieces))
                break
            except OSError as error:
                if not self._failing:
                    log.error("logs cannot be stored, nothing is acknowledged", error=str(error))
                self._failing = True
                if await self._closed_within(self._settings.retry_s):
                    return False
            except Exception:  # nothing is acknowledged, so nothing is lost; the server and its runs go on
                log.exception("logs could not be stored, nothing is acknowledged")
                self._failing = True
                if await self._closed_within(self._settings.trouble_s):
                    return False
        if self._failing:
            self._failing = False
            log.info("logs are stored again")
        for stream, piece in batch:
            stream.committing = False
            self._streams.let_go(stream, cost(piece.records))
            self._committed(stream, results[piece.key])
        return True

    def _ask_again(self) -> None:
        """Runners whose chunks were turned away go back, as soon as there is room."""
        for stream in list(self._turned_away.values()):
            if self._streams.has_room(stream, 1) or stream.idle:
                del self._turned_away[stream.key]
                stream.turned_away = False
                stream.ahead_at = None
                stream.answer(LogRewind(key=stream.key, expected_offset=stream.expected))

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True
