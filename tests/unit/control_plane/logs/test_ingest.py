"""Taking logs in: who may, what is acknowledged and when, and what a failing disk or database does."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from control_plane.domain.ids import AttemptKey, Holder, RunId, RunnerId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogExit
from control_plane.domain.run import RunState
from control_plane.domain.session import Fenced, LogAck, LogChunk, LogRewind, Release
from control_plane.logs.digest import LogDigest
from control_plane.logs.ingest import Ingest
from control_plane.logs.streams import IngestSettings, LogAnswer
from control_plane.watch import Watch
from tests.fakes.log_ledger import MemoryLedger
from tests.fakes.log_store import MemoryLogStore

RUN = RunId("0190b3a0-0000-7000-8000-000000000001")
KEY = AttemptKey(run_id=RUN, lease_epoch=3)
HOLDER = Holder(runner_id=RunnerId("runner"), state_directory_id="disk")
CLONE = Holder(runner_id=RunnerId("runner"), state_directory_id="another disk")
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Session:
    """A runner's end of the answers."""

    def __init__(self) -> None:
        self.said: list[LogAnswer] = []
        self._more = asyncio.Event()

    def answer(self, message: LogAnswer) -> None:
        self.said.append(message)
        self._more.set()

    async def until(self, wanted: type[LogAnswer], *, offset: int | None = None) -> LogAnswer:
        """The first answer of this kind (and committed offset), however long it takes."""
        async with asyncio.timeout(20):
            while True:
                for message in self.said:
                    at = message.committed_offset if isinstance(message, LogAck) else None
                    if isinstance(message, wanted) and offset in (None, at):
                        return message
                self._more.clear()
                await self._more.wait()

    async def count(self, number: int) -> None:
        """Until there are that many answers."""
        async with asyncio.timeout(20):
            while len(self.said) < number:
                self._more.clear()
                await self._more.wait()


class House:
    def __init__(self, settings: IngestSettings | None = None) -> None:
        self.watch = Watch()
        self.store = MemoryLogStore()
        self.ledger = MemoryLedger(self.watch)
        self.ledger.add(KEY, HOLDER)
        self.ingest = Ingest(ledger=self.ledger, store=self.store, watch=self.watch, settings=settings)
        self.session = Session()

    async def send(self, offset: int, *texts: bytes, holder: Holder = HOLDER, session: Session | None = None) -> None:
        answer = (session or self.session).answer
        await self.ingest.offer(KEY, holder, chunk(offset, texts), answer)


def chunk(offset: int, texts: Iterable[bytes], key: AttemptKey = KEY) -> LogChunk:
    records = tuple(LogRecord(kind=LogKind.STDOUT, at=AT, data=text) for text in texts)
    return LogChunk(key=key, offset=offset, records=records)


def digest_of(data: bytes) -> str:
    digest = LogDigest()
    digest.data(data)
    return digest.hex()


def stored(store: MemoryLogStore, key: AttemptKey = KEY) -> bytes:
    return b"".join(record.data for record in store.read(key, 0, 1 << 30).records)


@asynccontextmanager
async def running(settings: IngestSettings | None = None) -> AsyncIterator[House]:
    house = House(settings)
    async with asyncio.TaskGroup() as group:
        group.create_task(house.ingest.run(), name="ingest")
        yield house
        house.ingest.close()


async def test_bytes_are_acknowledged_once_they_are_synced() -> None:
    async with running() as house:
        with house.watch.subscribe(f"log:{RUN}:3") as followers:
            await house.send(0, b"one ", b"two")
            ack = await house.session.until(LogAck)
            assert await followers.wait(0)
        assert ack == LogAck(key=KEY, committed_offset=7, window_bytes=4 << 20)
        assert stored(house.store) == b"one two"
        assert house.ingest.held_bytes == 0


async def test_a_repeat_is_acknowledged_again_and_stored_once() -> None:
    async with running() as house:
        await house.send(0, b"one two")
        await house.session.until(LogAck, offset=7)
        await house.send(0, b"one two")
        await house.send(4, b"two three")
        await house.session.until(LogAck, offset=13)
        assert [ack.committed_offset for ack in house.session.said if isinstance(ack, LogAck)] == [7, 7, 13]
        assert stored(house.store) == b"one two three"


async def test_a_hole_is_asked_for_once_per_flight() -> None:
    async with running() as house:
        await house.send(0, b"one")
        await house.session.until(LogAck, offset=3)
        for offset in (10, 20, 30):
            await house.send(offset, b"x" * 10)
        await house.send(10, b"x" * 10)  # the runner went back, but not far enough
        rewinds = [message for message in house.session.said if isinstance(message, LogRewind)]
        assert rewinds == [LogRewind(key=KEY, expected_offset=3)] * 2
        await house.send(3, b"-------")
        await house.session.until(LogAck, offset=10)


async def test_evidence_counts_for_its_own_attempt_whatever_the_newest_fence_is() -> None:
    later = AttemptKey(run_id=RUN, lease_epoch=9)
    async with running() as house:
        house.ledger.add(later, CLONE)
        await house.send(0, b"late bytes of the lost attempt")
        await house.session.until(LogAck)


async def test_a_foreign_holder_is_fenced_and_nothing_is_stored() -> None:
    async with running() as house:
        await house.send(0, b"forged", holder=CLONE)
        assert house.session.said == [Fenced(key=KEY, current_lease_epoch=3)]
        await house.send(0, b"real")
        await house.session.until(LogAck)
        await house.send(4, b"forged", holder=CLONE)
        assert house.session.said[-1] == Fenced(key=KEY, current_lease_epoch=3)
        assert stored(house.store) == b"real"


async def test_an_attempt_that_the_database_does_not_know_gets_no_answer() -> None:
    unknown = AttemptKey(run_id=RunId("nobody"), lease_epoch=1)
    async with running() as house:
        await house.ingest.offer(unknown, HOLDER, chunk(0, [b"x"], unknown), house.session.answer)
        assert house.session.said == []
        assert stored(house.store, unknown) == b""


async def test_a_full_disk_acknowledges_nothing_and_heals_by_itself() -> None:
    async with running(IngestSettings(retry_s=0.001)) as house:
        await house.send(0, b"before")
        await house.session.until(LogAck, offset=6)
        house.store.broken = OSError(errno.ENOSPC, "full")
        await house.send(6, b", during")
        for _ in range(200):  # many turns of the loop, in which it tries in vain
            await asyncio.sleep(0)
        assert len(house.session.said) == 1
        house.store.broken = None
        await house.session.until(LogAck, offset=14)
        assert stored(house.store) == b"before, during"
        assert not any(isinstance(message, LogRewind) for message in house.session.said)


async def test_a_full_disk_does_not_keep_the_server_from_stopping() -> None:
    async with running(IngestSettings(retry_s=3600.0)) as house:
        house.store.broken = OSError(errno.EIO, "broken")
        await house.send(0, b"x")
    assert house.session.said == []


async def test_memory_stays_bounded_when_a_sender_ignores_its_credit() -> None:
    settings = IngestSettings(total_bytes=100_000, window_bytes=50_000, smallest_window_bytes=1_000, retry_s=0.001)
    async with running(settings) as house:
        house.store.broken = OSError(errno.ENOSPC, "full")
        sent = 0
        for _ in range(300):
            await house.send(sent, b"x" * 5_000)
            sent += 5_000
            assert house.ingest.held_bytes <= settings.total_bytes
        house.store.broken = None
        rewind = await house.session.until(LogRewind)
        assert isinstance(rewind, LogRewind)
        offset = rewind.expected_offset
        while offset < sent:  # the runner goes back, as it was told, and sends one chunk at a time
            await house.send(offset, b"x" * 5_000)
            offset += 5_000
            await house.session.until(LogAck, offset=offset)
        assert stored(house.store) == b"x" * sent


async def test_many_tiny_records_count_for_what_they_cost() -> None:
    settings = IngestSettings(total_bytes=1 << 20, retry_s=0.001)
    async with running(settings) as house:
        house.store.broken = OSError(errno.ENOSPC, "full")
        for start in range(0, 20_000, 100):
            await house.send(start, *[b"x"] * 100)
        assert house.ingest.held_bytes <= settings.total_bytes
        house.store.broken = None


async def test_streams_of_a_session_share_its_window() -> None:
    keys = [AttemptKey(run_id=RUN, lease_epoch=epoch) for epoch in range(10, 14)]
    async with running(IngestSettings(window_bytes=4 << 20)) as house:
        for key in keys:
            house.ledger.add(key, HOLDER)
        for offset in (0, 1):
            for key in keys:
                await house.ingest.offer(key, HOLDER, chunk(offset, [b"x"], key), house.session.answer)
            await house.session.count(len(keys) * (offset + 1))
        windows = [message.window_bytes for message in house.session.said[-4:] if isinstance(message, LogAck)]
        assert windows == [1 << 20] * 4


async def test_one_commit_serves_all_that_arrived_during_the_one_before() -> None:
    keys = [AttemptKey(run_id=RUN, lease_epoch=epoch) for epoch in range(100, 150)]
    async with running() as house:
        for key in keys:
            house.ledger.add(key, HOLDER)
            await house.ingest.committed(key)
        sends = [house.ingest.offer(key, HOLDER, chunk(0, [b"x"], key), house.session.answer) for key in keys]
        await asyncio.gather(*sends)
        await house.session.count(len(keys))
        assert house.store.syncs < len(keys)


async def test_the_first_bytes_are_committed_at_once_and_what_follows_soon_gathers_until_it_is_enough() -> None:
    async with running(IngestSettings(gather_s=3600.0)) as house:
        await house.send(0, b"x" * 100)
        await house.session.until(LogAck, offset=100)
        for start in range(100, 1_000, 100):
            await house.send(start, b"x" * 100)
        assert house.store.syncs == 1
        await house.send(1_000, b"x" * (64 << 10))
        end = 1_000 + (64 << 10)
        await house.session.until(LogAck, offset=end)
        assert house.store.syncs == 2
        await house.send(end, b"x" * (65 << 10))
        assert house.store.syncs == 2, "the one after gathers twice as much"
        await house.send(end + (65 << 10), b"x" * (80 << 10))
        await house.session.until(LogAck, offset=end + (145 << 10))
        assert house.store.syncs == 3


async def test_what_gathers_is_committed_when_its_time_has_come_or_the_server_stops() -> None:
    async with running(IngestSettings(gather_s=0.001)) as house:
        await house.send(0, b"one ")
        await house.send(4, b"two ")
        await house.session.until(LogAck, offset=8)
    async with running(IngestSettings(gather_s=3600.0)) as house:
        await house.send(0, b"one ")
        await house.session.until(LogAck, offset=4)
        await house.send(4, b"two ")
    assert stored(house.store) == b"one two "


async def test_a_log_that_matches_its_exit_record_is_sealed_and_released() -> None:
    async with running() as house:
        await house.send(0, b"all ", b"of it")
        await house.session.until(LogAck, offset=9)
        house.ledger.exited(KEY, LogExit(final_offset=9, digest=digest_of(b"all of it")))
        await house.ingest.exit_stored(KEY, HOLDER, house.session.answer)
        assert await house.session.until(Release) == Release(key=KEY)
        seal = house.ledger.seals[KEY]
        assert (seal.bytes, seal.complete, seal.digest) == (9, True, digest_of(b"all of it"))
        assert house.ingest.take_sealed() == (KEY,)
        assert house.ingest.take_sealed() == ()
        await house.send(0, b"all of it")  # a repeat after the seal: the runner may forget it
        assert house.session.said[-1] == Release(key=KEY)


async def test_an_exit_before_its_last_bytes_seals_when_they_have_come() -> None:
    async with running() as house:
        await house.send(0, b"one ")
        house.ledger.exited(KEY, LogExit(final_offset=7, digest=digest_of(b"one two")))
        await house.ingest.exit_stored(KEY, HOLDER, house.session.answer)
        assert KEY not in house.ledger.seals
        await house.send(4, b"two")
        await house.session.until(Release)
        assert house.ledger.seals[KEY].complete


async def test_the_log_of_a_silent_program_is_sealed_at_its_exit() -> None:
    async with running() as house:
        house.ledger.exited(KEY, LogExit(final_offset=0, digest=digest_of(b"")))
        await house.ingest.exit_stored(KEY, HOLDER, house.session.answer)
        await house.session.until(Release)
        assert house.ledger.seals[KEY].complete


async def test_after_a_restart_the_exit_record_is_found_in_the_database() -> None:
    house = House()
    house.store.append(KEY, 0, [LogRecord(kind=LogKind.STDOUT, at=AT, data=b"one ")])
    house.store.sync([KEY])
    house.ledger.exited(KEY, LogExit(final_offset=7, digest=digest_of(b"one two")))
    async with asyncio.TaskGroup() as group:
        group.create_task(house.ingest.run(), name="ingest")
        assert await house.ingest.committed(KEY) == 4
        await house.send(4, b"two")
        await house.session.until(Release)
        house.ingest.close()


async def test_a_digest_that_differs_seals_incomplete_and_never_silently() -> None:
    async with running() as house:
        await house.send(0, b"what we got")
        await house.session.until(LogAck)
        house.ledger.exited(KEY, LogExit(final_offset=11, digest=digest_of(b"what it was")))
        await house.ingest.exit_stored(KEY, HOLDER, house.session.answer)
        await house.session.until(Release)
        seal = house.ledger.seals[KEY]
        assert not seal.complete
        assert "differ" in seal.note
        assert seal.digest == digest_of(b"what we got")


async def test_a_dead_shims_log_is_incomplete_however_many_bytes_came() -> None:
    async with running() as house:
        await house.send(0, b"so far")
        await house.session.until(LogAck)
        house.ledger.exited(KEY, LogExit(final_offset=6, digest="", counted=False), state=RunState.LOST)
        await house.ingest.exit_stored(KEY, HOLDER, house.session.answer)
        await house.session.until(Release)
        assert not house.ledger.seals[KEY].complete


async def test_what_an_inventory_no_longer_lists_is_sealed_incomplete() -> None:
    listed = AttemptKey(run_id=RUN, lease_epoch=4)
    living = AttemptKey(run_id=RUN, lease_epoch=5)
    foreign = AttemptKey(run_id=RUN, lease_epoch=6)
    async with running() as house:
        for key, holder in ((listed, HOLDER), (living, HOLDER), (foreign, CLONE)):
            house.ledger.add(key, holder)
        for key in (KEY, listed, foreign):
            house.ledger.finish(key, state=RunState.LOST)
        await house.send(0, b"some bytes")
        await house.session.until(LogAck)
        await house.ingest.seal_missing(HOLDER, frozenset({listed}))
        assert list(house.ledger.seals) == [KEY]
        assert (house.ledger.seals[KEY].bytes, house.ledger.seals[KEY].complete) == (10, False)
        await house.ingest.seal_missing(HOLDER, frozenset({listed}))


async def test_a_log_that_is_whole_is_complete_even_if_its_runner_forgot_it() -> None:
    async with running() as house:
        await house.send(0, b"whole")
        await house.session.until(LogAck)
        house.ledger.exited(KEY, LogExit(final_offset=5, digest=digest_of(b"whole")))
        await house.ingest.seal_missing(HOLDER, frozenset())
        assert house.ledger.seals[KEY].complete


async def test_a_database_that_does_not_answer_delays_the_seal_only() -> None:
    async with running(IngestSettings(retry_s=0.001)) as house:
        await house.send(0, b"x")
        await house.session.until(LogAck)
        house.ledger.exited(KEY, LogExit(final_offset=1, digest=digest_of(b"x")))
        await house.ingest.exit_stored(KEY, HOLDER, house.session.answer)
        house.ledger.broken = True
        for _ in range(100):
            await asyncio.sleep(0)
        house.ledger.broken = False
        await house.session.until(Release)


async def test_a_new_session_gets_the_answers_and_the_old_one_is_forgotten() -> None:
    async with running(IngestSettings(retry_s=0.001)) as house:
        house.store.broken = OSError(errno.ENOSPC, "full")
        await house.send(0, b"sent by the old")
        house.ingest.forget_session(house.session.answer)
        new = Session()
        with house.watch.subscribe(f"log:{RUN}:3") as followers:
            house.store.broken = None
            assert await followers.wait(20)
        await house.send(0, b"sent by the old", session=new)
        await new.until(LogAck, offset=15)
        assert house.session.said == []
        house.ingest.forget_session(new.answer)
        assert await house.ingest.committed(KEY) == 15


async def test_what_arrived_before_the_stop_is_committed() -> None:
    async with running() as house:
        await house.send(0, b"last words")
    assert stored(house.store) == b"last words"
    assert house.session.said == [LogAck(key=KEY, committed_offset=10, window_bytes=4 << 20)]
