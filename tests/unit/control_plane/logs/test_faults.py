"""A runner that obeys the answers gets its whole log in, whatever is lost, repeated, cut off, full or restarted."""

from __future__ import annotations

import asyncio
import errno
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.domain.ids import AttemptKey, Holder, RunId, RunnerId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogExit, LogSegment
from control_plane.domain.session import LogAck, LogChunk, LogRewind, Release
from control_plane.logs.files import FileLogStore
from control_plane.logs.ingest import Ingest
from control_plane.logs.streams import IngestSettings, LogAnswer
from control_plane.watch import Watch
from runner_agent.shim.digest import LogDigest as ShimDigest
from tests.fakes.log_ledger import MemoryLedger

KEY = AttemptKey(run_id=RunId("0190b3a0-0000-7000-8000-000000000001"), lease_epoch=3)
HOLDER = Holder(runner_id=RunnerId("runner"), state_directory_id="disk")
AT = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = IngestSettings(
    window_bytes=6_000, smallest_window_bytes=500, total_bytes=20_000, commit_bytes=2_000, retry_s=0.0, trouble_s=0.0
)


class FailingStore(FileLogStore):
    """Files that fail when the test's dice say so: at a sync as disks do or do not, and before a seal."""

    def __init__(self, root: Path, dice: random.Random, share: float) -> None:
        super().__init__(root, segment_bytes=1_500)
        self._dice, self._share = dice, share

    def sync(self, keys: object) -> None:
        if self._dice.random() < self._share:
            raise OSError(errno.ENOSPC, "full") if self._dice.random() < 0.7 else LookupError("a mistake")
        super().sync(keys)  # type: ignore[arg-type]

    def segments(self, key: AttemptKey) -> tuple[LogSegment, ...]:
        if self._dice.random() < self._share:
            raise LookupError("a mistake")
        return super().segments(key)


class Runner:
    """Has the whole log in its spool and sends it from where it was told, no further than its credit."""

    def __init__(self, spool: list[LogRecord], dice: random.Random) -> None:
        self.spool = spool
        self.offsets = [0]
        for record in spool:
            self.offsets.append(self.offsets[-1] + record.length)
        self.dice = dice
        self.released = False
        self.connect(0)

    def connect(self, resume_offset: int) -> None:
        """A new session: nothing of the old one counts."""
        self.acked = self.next = resume_offset
        self.window = 2_000

        def answer(message: LogAnswer) -> None:
            if answer is not self.answer:
                return
            if isinstance(message, LogAck):
                assert message.committed_offset >= self.acked, "an acknowledgement never goes back"
                self.acked, self.window = message.committed_offset, message.window_bytes
            elif isinstance(message, LogRewind):
                self.next = message.expected_offset
            elif isinstance(message, Release):
                self.released = True

        self.answer = answer

    def chunk(self) -> LogChunk | None:
        """The next piece, cut anywhere; None when there is no credit or nothing left."""
        if self.next >= self.offsets[-1] or self.next - self.acked >= self.window:
            return None
        place = max(number for number, offset in enumerate(self.offsets[:-1]) if offset <= self.next)
        records, start = [], self.next
        for record in self.spool[place : place + self.dice.randrange(1, 6)]:
            skip = max(0, start - self.offsets[place]) if not records else 0
            if record.gap_bytes:
                records.append(LogRecord(kind=record.kind, at=AT, gap_bytes=record.gap_bytes - skip))
            else:
                records.append(LogRecord(kind=record.kind, at=AT, data=record.data[skip:]))
        self.next += sum(record.length for record in records)
        return LogChunk(key=KEY, offset=start, records=tuple(records))


def spool_of(dice: random.Random) -> list[LogRecord]:
    def record() -> LogRecord:
        if dice.random() < 0.1:
            return LogRecord(kind=LogKind.SYSTEM, at=AT, gap_bytes=dice.randrange(1, 3_000))
        return LogRecord(kind=LogKind.STDOUT, at=AT, data=dice.randbytes(dice.randrange(1, 900)))

    return [record() for _ in range(dice.randrange(0, 80))]


def exit_of(spool: list[LogRecord]) -> LogExit:
    digest, offset = ShimDigest(), 0
    for record in spool:
        offset += record.length
        if record.gap_bytes:
            digest.gap(offset)
        else:
            digest.data(record.data)
    return LogExit(final_offset=offset, digest=digest.hex())


async def play(root: Path, seed: int, faults: float) -> None:
    dice = random.Random(seed)
    spool = spool_of(dice)
    watch = Watch()
    ledger = MemoryLedger(watch)
    ledger.add(KEY, HOLDER)
    runner = Runner(spool, dice)
    exited = False
    async with asyncio.timeout(60):
        while not runner.released:  # one life of the server
            store = FailingStore(root, dice, faults)
            ingest = Ingest(ledger=ledger, store=store, watch=watch, settings=SETTINGS)
            async with asyncio.TaskGroup() as group:
                group.create_task(ingest.run(), name="ingest")
                runner.connect(await ingest.committed(KEY))
                while not runner.released and dice.random() > faults / 10:
                    await turn(ingest, runner, dice, faults)
                    if not exited and dice.random() < 0.05:
                        exited = True
                        ledger.exited(KEY, exit_of(spool))
                ingest.close()
            store.close()
    reader = FileLogStore(root)
    found, offset = [], 0
    while read := reader.read(KEY, offset, 1 << 20).records:
        found += [byte for record in read for byte in (record.data or [None] * record.gap_bytes)]
        offset += sum(record.length for record in read)
    assert found == [byte for record in spool for byte in (record.data or [None] * record.gap_bytes)]
    assert ledger.seals[KEY].complete
    reader.close()


async def turn(ingest: Ingest, runner: Runner, dice: random.Random, faults: float) -> None:
    """Send, lose, repeat, reconnect, or say that the attempt has ended, as every heartbeat does."""
    what = dice.random()
    if what < faults / 2:
        ingest.forget_session(runner.answer)
        runner.connect(await ingest.committed(KEY))
    elif what < faults / 2 + 0.1:
        await ingest.exit_stored(KEY, HOLDER, runner.answer)
    else:
        chunk = runner.chunk()
        if chunk is not None and dice.random() > faults / 5:
            for _ in range(1 + (dice.random() < faults)):
                await ingest.offer(KEY, HOLDER, chunk, runner.answer)
    assert ingest.held_bytes <= SETTINGS.total_bytes
    await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(6))
async def test_without_faults_it_takes_one_life(tmp_path: Path, seed: int) -> None:
    await play(tmp_path, seed, 0.0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), faults=st.sampled_from([0.02, 0.1, 0.3]))
def test_with_faults_it_gets_there_too(tmp_path_factory: pytest.TempPathFactory, seed: int, faults: float) -> None:
    asyncio.run(play(tmp_path_factory.mktemp("logs"), seed, faults))
