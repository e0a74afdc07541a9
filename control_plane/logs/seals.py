"""Sealing: a log whose length and digest match its exit record is complete, and its runner may forget it."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from control_plane.domain.errors import BanksmanError, NotFound
from control_plane.domain.ids import AttemptKey
from control_plane.domain.logs import LogExit, LogSeal, LogSegment
from control_plane.domain.session import Release
from control_plane.logs.ledger import LogLedger
from control_plane.logs.offsets import Judgement, LogState, judge
from control_plane.logs.store import LogStore
from control_plane.logs.streams import IngestSettings, Stream, log_topic
from control_plane.telemetry import logger
from control_plane.watch import Watch

T = TypeVar("T")

log = logger("logs")

# Sealed logs that wait to be compressed; a restart finds those that were forgotten.
REMEMBERED = 10_000


class InThread(Protocol):
    """Runs a function in the thread that writes."""

    async def __call__(self, body: Callable[[], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class _Facts:
    end: int
    digest: str
    segments: tuple[LogSegment, ...]


class Sealer:
    """Compares, seals, and tells the runner. The seal is committed to the database before anybody hears of it."""

    def __init__(
        self,
        *,
        ledger: LogLedger,
        store: LogStore,
        watch: Watch,
        settings: IngestSettings,
        in_thread: InThread,
        sealed: Callable[[Stream], None],
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._watch = watch
        self._settings = settings
        self._in_thread = in_thread
        self._sealed = sealed
        self._asked: dict[AttemptKey, Stream] = {}
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._failed = False
        self.fresh: deque[AttemptKey] = deque(maxlen=REMEMBERED)

    def ask(self, stream: Stream) -> None:
        """The stream looks whole."""
        self._asked[stream.key] = stream
        self._wake.set()

    def close(self) -> None:
        """Let `run` end; what was asked before is still sealed, unless the database fails."""
        self._closing.set()
        self._wake.set()

    async def run(self) -> None:
        """Seal what is whole, many at once, so that they share the database's commits."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._asked:
                self._failed = False
                some = [self._asked.pop(key) for key in list(self._asked)[: self._settings.seals_at_once]]
                async with asyncio.TaskGroup() as group:
                    for stream in some:
                        group.create_task(self._settle(stream), name=f"log-seal-{stream.key.run_id}")
                if self._failed and await self._closed_within(self._settings.retry_s):
                    return
            if self._closing.is_set():
                return

    async def _settle(self, stream: Stream) -> None:
        if stream.sealing or stream.sealed or not stream.whole or stream.exit is None:
            return
        ended = stream.exit
        try:
            async with _Sealing(stream):
                facts = await self._in_thread(lambda: self._look(stream.key, ended))
                found = judge(ended, facts.end, facts.digest)
                if found.state is not LogState.WAITING:
                    await self._seal(stream, facts, found)
        except NotFound:
            self._sealed(stream)  # the run was deleted meanwhile
        except (BanksmanError, OSError) as error:
            log.warning("a log could not be sealed yet", run=stream.key.run_id, error=str(error))
            self._failed = True
            self._asked[stream.key] = stream
        except Exception:  # the others are sealed; a heartbeat that lists this one asks for it again
            log.exception("a log could not be sealed", run=stream.key.run_id, epoch=stream.key.lease_epoch)

    async def give_up(self, stream: Stream, why: str) -> None:
        """Seal with what is there. Raises BanksmanError, OSError."""
        async with _Sealing(stream):
            facts = await self._in_thread(lambda: self._look(stream.key, stream.exit))
            found = Judgement(LogState.INCOMPLETE, why)
            if stream.exit is not None and facts.end >= stream.exit.final_offset:
                found = judge(stream.exit, facts.end, facts.digest)
            await self._seal(stream, facts, found)

    def _look(self, key: AttemptKey, ended: LogExit | None) -> _Facts:
        """What is stored. A digest that differs is computed anew from the disk before it is believed."""
        end, digest = self._store.end(key), self._store.digest(key)
        if ended is not None and ended.digest not in ("", digest) and end == ended.final_offset:
            digest = self._store.verify(key)
        return _Facts(end, digest, self._store.segments(key))

    async def _seal(self, stream: Stream, facts: _Facts, found: Judgement) -> None:
        key, complete = stream.key, found.state is LogState.COMPLETE
        if not complete:
            log.warning("a log is sealed incomplete", run=key.run_id, epoch=key.lease_epoch, note=found.note)
        seal = LogSeal(
            bytes=facts.end, digest=facts.digest, complete=complete, segments=facts.segments, note=found.note
        )
        await self._ledger.seal(key, seal)
        stream.sealed = True
        await self._in_thread(lambda: self._store.seal(key))
        self.fresh.append(key)
        stream.answer(Release(key=key))
        self._watch.notify(log_topic(key), f"run:{key.run_id}")
        self._sealed(stream)

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True


class _Sealing:
    """While this lasts nothing more is taken into the stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def __aenter__(self) -> None:
        self._stream.sealing = True

    async def __aexit__(self, *_: object) -> None:
        self._stream.sealing = False
