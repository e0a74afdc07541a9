"""An attempt's log through all rooms: real database, real files, a hand-played runner; from first byte to removal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from control_plane.domain.errors import ErrorCode, OutOfRange
from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogBatch, LogEnd, LogItem, LogQuery
from control_plane.domain.run import RunState
from control_plane.domain.session import ExitOutcome, ExitRecord, LogAck, LogChunk, Release
from control_plane.logs.digest import LogDigest
from control_plane.logs.files import FileLogStore
from control_plane.logs.housekeeping import LogHousekeeping, LogRetention
from control_plane.logs.ingest import Ingest
from control_plane.logs.ledger import HouseLedger
from control_plane.logs.streams import LogAnswer
from control_plane.logs.tail import Tail, TailSettings
from tests.fakes.cases import spec
from tests.fakes.world import World


class Rooms:
    """The log room over a world."""

    def __init__(self, world: World, root: Path) -> None:
        self.world = world
        self.ledger = HouseLedger(world.house)
        self.store = FileLogStore(root)
        self.ingest = Ingest(ledger=self.ledger, store=self.store, watch=world.house.watch)
        self.tail = Tail(
            ledger=self.ledger,
            store=self.store,
            watch=world.house.watch,
            clock=world.clock,
            settings=TailSettings(incomplete_after_s=0.0),
        )
        self.said: list[LogAnswer] = []
        self._more = asyncio.Event()

    def answer(self, message: LogAnswer) -> None:
        self.said.append(message)
        self._more.set()

    async def until(self, message: LogAnswer | type[LogAnswer]) -> None:
        async with asyncio.timeout(20):
            while not any(
                said == message or (isinstance(message, type) and isinstance(said, message)) for said in self.said
            ):
                self._more.clear()
                await self._more.wait()

    async def send(self, key: AttemptKey, holder: Holder, offset: int, data: bytes) -> None:
        record = LogRecord(kind=LogKind.STDOUT, at=self.world.clock.now(), data=data)
        await self.ingest.offer(key, holder, LogChunk(key=key, offset=offset, records=(record,)), self.answer)

    async def exit(self, key: AttemptKey, holder: Holder, record: ExitRecord) -> None:
        await self.world.exited(key, holder, record)
        await self.ingest.exit_stored(key, holder, self.answer)

    async def read(self, query: LogQuery) -> list[LogItem]:
        async with asyncio.timeout(20), aclosing(self.tail.follow(query)) as items:
            return [item async for item in items]

    def housekeeping(self) -> LogHousekeeping:
        return LogHousekeeping(
            ledger=self.ledger,
            store=self.store,
            take_sealed=self.ingest.take_sealed,
            give_up=self.ingest.seal_incomplete,
            retention=LogRetention(keep_s=3_600.0),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.ingest.run(), name="ingest")
            yield
            self.ingest.close()
        self.tail.close()
        self.store.close()


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[Rooms]:
    world = World(tmp_path / "state")
    await world.settle_in()
    yield Rooms(world, tmp_path / "logs")
    await world.house.database.close()


def ended(data: bytes, *, outcome: ExitOutcome = ExitOutcome.ENDED_WELL, code: int = 0) -> ExitRecord:
    digest = LogDigest()
    digest.data(data)
    return ExitRecord(outcome=outcome, exit_code=code, tree_empty=True, final_offset=len(data), digest=digest.hex())


def text(items: list[LogItem]) -> bytes:
    return b"".join(record.data for item in items if isinstance(item, LogBatch) for record in item.records)


async def test_a_run_settles_when_its_log_is_whole(rooms: Rooms) -> None:
    world = rooms.world
    holder = await world.runner()
    run = await world.submit()
    key = await world.running(run, holder)
    async with rooms.running():
        await rooms.send(key, holder, 0, b"first ")
        await rooms.until(LogAck)
        await rooms.exit(key, holder, ended(b"first and last"))
        stored = await world.stored(run.id)
        assert (stored.state, stored.settled_at) == (RunState.SUCCEEDED, None)
        await rooms.send(key, holder, 6, b"and last")
        await rooms.until(Release(key=key))
        attempt = await world.attempt(key)
        assert (attempt.log_bytes, attempt.log_complete) == (14, True)
        assert (await world.stored(run.id)).settled_at == world.clock.now()
        items = await rooms.read(LogQuery(run_id=run.id, follow=True))
        assert text(items) == b"first and last"
        end = items[-1]
        assert isinstance(end, LogEnd)
        assert (end.state, end.exit_code, end.complete, end.digest) == (RunState.SUCCEEDED, 0, True, attempt.log_digest)
        index = await rooms.ledger.oldest(10)
        assert [stored_key for stored_key, stored_bytes in index if stored_bytes > 14] == [key]


async def test_the_log_of_a_failed_try_is_completed_behind_the_next_one(rooms: Rooms) -> None:
    world = rooms.world
    holder = await world.runner()
    run = await world.submit(spec(max_attempts=2))
    first = await world.running(run, holder)
    async with rooms.running():
        await rooms.exit(first, holder, ended(b"try one\n", outcome=ExitOutcome.ENDED_BADLY, code=1))
        assert (await world.stored(run.id)).state is RunState.QUEUED
        await world.tick(400.0)
        second = await world.running(await world.stored(run.id), holder)
        await rooms.send(second, holder, 0, b"try two\n")
        await rooms.until(LogAck(key=second, committed_offset=8, window_bytes=2 << 20))
        await rooms.send(first, holder, 0, b"try one\n")
        await rooms.until(Release(key=first))
        await rooms.exit(second, holder, ended(b"try two\n"))
        await rooms.until(Release(key=second))
        items = await rooms.read(LogQuery(run_id=run.id, lease_epoch=first.lease_epoch, follow=True))
        assert text(items) == b"try one\ntry two\n"


async def test_an_inventory_without_an_ended_attempt_seals_its_log_incomplete(rooms: Rooms) -> None:
    world = rooms.world
    holder = await world.runner()
    run = await world.submit()
    key = await world.running(run, holder)
    living = await world.running(await world.submit(), holder)
    async with rooms.running():
        await rooms.send(key, holder, 0, b"what came")
        await rooms.until(LogAck)
        await rooms.exit(key, holder, ended(b"what came and what did not"))
        await rooms.ingest.seal_missing(holder, frozenset())
        attempt = await world.attempt(key)
        assert (attempt.log_bytes, attempt.log_complete) == (9, False)
        assert (await world.attempt(living)).log_sealed_at is None
        assert "EVIDENCE_ADDED" in await world.kinds(run.id)
        end = (await rooms.read(LogQuery(run_id=run.id, follow=True)))[-1]
        assert isinstance(end, LogEnd)
        assert not end.complete


async def test_after_a_restart_the_log_goes_on_where_it_was(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    await world.settle_in()
    holder = await world.runner()
    run = await world.submit()
    key = await world.running(run, holder)
    before = Rooms(world, tmp_path / "logs")
    async with before.running():
        await before.send(key, holder, 0, b"before ")
        await before.until(LogAck)
    await world.restart()
    after = Rooms(world, tmp_path / "logs")
    async with after.running():
        assert await after.ingest.committed(key) == 7
        await after.send(key, holder, 7, b"after")
        await after.exit(key, holder, ended(b"before after"))
        await after.until(Release(key=key))
        assert (await world.attempt(key)).log_complete
    await world.house.database.close()


async def test_a_log_is_compressed_and_at_last_removed(rooms: Rooms) -> None:
    world = rooms.world
    holder = await world.runner()
    run = await world.submit()
    key = await world.running(run, holder)
    data = b"the same line again and again\n" * 2_000
    care = rooms.housekeeping()
    async with rooms.running():
        rooms.store._segment_bytes = 20_000
        for start in range(0, len(data), 6_000):
            await rooms.send(key, holder, start, data[start : start + 6_000])
            await rooms.until(LogAck)
        await rooms.exit(key, holder, ended(data))
        await rooms.until(Release(key=key))
        before = await rooms.ledger.stored_bytes()
        assert await care.compress() == 1
        assert await rooms.ledger.stored_bytes() < before / 10
        assert text(await rooms.read(LogQuery(run_id=run.id))) == data
        assert await care.remove_old() == 0
        world.clock.advance(3_601.0)
        assert await care.remove_old() == 1
        with pytest.raises(OutOfRange) as caught:
            await rooms.read(LogQuery(run_id=run.id))
        assert caught.value.code is ErrorCode.LOG_EXPIRED
        assert await care.remove_old() == 0


async def test_a_log_whose_runner_never_came_back_is_sealed_and_removed_too(rooms: Rooms) -> None:
    world = rooms.world
    holder = await world.runner()
    run = await world.submit()
    key = await world.running(run, holder)
    care = rooms.housekeeping()
    async with rooms.running():
        await rooms.send(key, holder, 0, b"what came")
        await rooms.until(LogAck)
        await world.exited(key, holder, ended(b"what came and what did not"))
        assert await care.remove_old() == 0
        assert (await world.attempt(key)).log_sealed_at is None
        world.clock.advance(3_601.0)
        assert await care.remove_old() == 0
        assert (await world.attempt(key)).log_sealed_at is not None
        assert not (await world.attempt(key)).log_complete
        assert (await world.stored(run.id)).settled_at is not None
        world.clock.advance(3_601.0)
        assert await care.remove_old() == 1
