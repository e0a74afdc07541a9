"""A run whose attempts write and end when a test says so, and what a reader of its log was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from control_plane.domain.ids import AttemptKey, Holder, RunId, RunnerId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogBatch, LogEnd, LogItem, LogQuery, LogSeal, LogStart
from control_plane.domain.run import RunState
from control_plane.logs.files import FileLogStore
from control_plane.logs.streams import log_topic
from control_plane.logs.tail import Tail, TailSettings
from control_plane.watch import Watch
from tests.fakes.clock import FakeClock
from tests.fakes.log_ledger import MemoryLedger

RUN = RunId("0190b3a0-0000-7000-8000-000000000001")
HOLDER = Holder(runner_id=RunnerId("runner"), state_directory_id="disk")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def key(epoch: int) -> AttemptKey:
    return AttemptKey(run_id=RUN, lease_epoch=epoch)


def line(data: bytes, *, kind: LogKind = LogKind.STDOUT, second: int = 0, step: int = 0) -> LogRecord:
    return LogRecord(kind=kind, at=AT + timedelta(seconds=second), data=data, step=step)


class House:
    """A run whose attempts write and end when a test says so."""

    def __init__(self, root: Path, settings: TailSettings | None = None) -> None:
        self.watch = Watch()
        self.ledger = MemoryLedger(self.watch)
        self.store = FileLogStore(root, segment_bytes=2_000)
        self.clock = FakeClock()
        self.tail = Tail(ledger=self.ledger, store=self.store, watch=self.watch, clock=self.clock, settings=settings)

    def begin(self, epoch: int = 1) -> None:
        self.ledger.add(key(epoch), HOLDER)

    def write(self, *records: LogRecord, epoch: int = 1) -> None:
        self.store.append(key(epoch), self.store.end(key(epoch)), records)
        self.store.sync([key(epoch)])
        self.watch.notify(log_topic(key(epoch)))

    async def seal(self, epoch: int = 1, *, complete: bool = True) -> None:
        seal = LogSeal(bytes=self.store.end(key(epoch)), digest=self.store.digest(key(epoch)), complete=complete)
        await self.ledger.seal(key(epoch), seal)
        self.store.seal(key(epoch))

    async def end(self, epoch: int = 1, *, state: RunState = RunState.SUCCEEDED) -> None:
        self.ledger.finish(key(epoch), state=state)
        await self.seal(epoch)

    async def read(self, **query: object) -> list[LogItem]:
        async with asyncio.timeout(20), aclosing(self.tail.follow(LogQuery(run_id=RUN, **query))) as items:
            return [item async for item in items]

    def close(self) -> None:
        self.tail.close()
        self.store.close()


def text(items: list[LogItem]) -> bytes:
    """The bytes of all batches; fails if they do not follow one another."""
    found, next_offset = b"", None
    for item in items:
        if isinstance(item, LogStart):
            next_offset = 0
        if isinstance(item, LogBatch):
            assert next_offset in (None, item.offset)
            next_offset = item.next_offset
            found += b"".join(record.data for record in item.records)
    return found


def end_of(items: list[LogItem]) -> LogEnd:
    assert isinstance(items[-1], LogEnd)
    assert not any(isinstance(item, LogEnd) for item in items[:-1])
    return items[-1]


async def collect(items: AsyncIterator[LogItem], into: list[LogItem], arrived: asyncio.Event) -> None:
    async for item in items:
        into.append(item)
        arrived.set()


async def until(arrived: asyncio.Event, condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            arrived.clear()
            await arrived.wait()
