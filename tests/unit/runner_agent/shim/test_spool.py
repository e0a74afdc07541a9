"""The spool: what is written comes back from any offset, full disks and limits leave gaps, digests agree."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner_agent.execution.log_reader import LogGap, LogReader, LogRecord, retire
from runner_agent.shim import spool_format
from runner_agent.shim.aftermath import log_end
from runner_agent.shim.codec import BadMessage
from runner_agent.shim.digest import BLOCK_BYTES, LogDigest, gap_entry
from runner_agent.shim.spool import Spool

SECOND = 1_000_000_000


class Written:
    """A spool, the bytes that were given to it, and a clock."""

    def __init__(self, directory: Path, *, log_limit_bytes: int = 1 << 30, quota_bytes: int = 1 << 30) -> None:
        self.directory = directory
        self.spool = Spool(str(directory), log_limit_bytes=log_limit_bytes, quota_bytes=quota_bytes)
        self.whole = b""
        self.now_ns = 0

    def append(self, data: bytes, kind: int = 1, step: int = 0) -> None:
        """Add bytes, a millisecond later."""
        self.now_ns += SECOND // 1000
        self.spool.append(kind, step, data, wall_ns=self.now_ns, now_ns=self.now_ns)
        self.whole += data

    def fill(self, size: int, piece: int = 8 << 10) -> None:
        """Add numbered bytes."""
        for start in range(len(self.whole), len(self.whole) + size, piece):
            self.append((b"%015d\n" % start) * (piece // 16))


def _read(reader: LogReader, **options: int) -> list[LogRecord | LogGap]:
    found: list[LogRecord | LogGap] = []
    while batch := reader.read(**options):
        assert sum(len(item.data) for item in batch if isinstance(item, LogRecord)) <= options.get("max_bytes", 65536)
        found += batch
    return found


def _check(found: list[LogRecord | LogGap], whole: bytes, offset: int = 0) -> LogDigest:
    """Every record holds the right bytes, in order, and gaps fill the rest; the digest of it all."""
    digest = LogDigest()
    for item in found:
        if isinstance(item, LogGap):
            assert (item.start, item.end > item.start) == (offset, True)
            offset = item.end
            digest.gap(item.end)
        else:
            assert item.offset == offset
            assert item.data == whole[offset : offset + len(item.data)]
            offset += len(item.data)
            digest.data(item.data)
    assert offset == len(whole)
    return digest


def test_records_keep_stream_step_and_time(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.append(b"out", 1, 0)
    written.append(b"err", 2, 1)
    found = LogReader(tmp_path).read()
    assert [(item.kind, item.step, item.time_ns, item.data) for item in found if isinstance(item, LogRecord)] == [
        (1, 0, SECOND // 1000, b"out"),
        (2, 1, 2 * SECOND // 1000, b"err"),
    ]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_offset_and_batch_size_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    written = Written(tmp_path_factory.mktemp("spool"), quota_bytes=data.draw(st.integers(1 << 16, 1 << 22)))
    for size in data.draw(st.lists(st.integers(1, 200_000), max_size=6)):
        written.append(os.urandom(size))
    final, digest, gaps = written.spool.finish()
    offset = data.draw(st.integers(0, final))
    reader = LogReader(written.directory, offset)
    found = _read(reader, max_bytes=data.draw(st.integers(1, 100_000)), final_offset=final)
    checked = _check(found, written.whole, offset)
    if offset == 0:
        assert checked.hex() == digest
        assert tuple(checked.gaps) == gaps
    reader.close()


def test_a_reader_follows_the_writer_over_files_and_resumes_in_the_middle(tmp_path: Path) -> None:
    written = Written(tmp_path, quota_bytes=1 << 20)  # files of 96 KiB
    reader = LogReader(tmp_path)
    found: list[LogRecord | LogGap] = []
    for _ in range(12):
        written.fill(40 << 10)
        found += _read(reader)
        assert reader.offset == len(written.whole)
        assert reader.read() == ()
    assert len(spool_format.file_numbers(str(tmp_path))) > 3
    _check(found, written.whole)
    reader.seek(100_001)
    _check(_read(reader, max_bytes=777), written.whole, 100_001)
    reader.close()


def test_a_torn_tail_is_not_read_and_what_follows_in_the_next_file_is(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.append(b"first")
    written.append(b"second")
    path = tmp_path / "spool.0"
    whole = path.read_bytes()
    for cut in range(1, 6 + spool_format.RECORD_HEADER_BYTES + 1):
        path.write_bytes(whole[:-cut])
        assert [item.data for item in LogReader(tmp_path).read() if isinstance(item, LogRecord)] == [b"first"]
        assert log_end(str(tmp_path)).offset == 5
    path.write_bytes(whole[:-1] + b"!")  # damaged, not torn
    reader = LogReader(tmp_path)
    assert len(reader.read()) == 1
    path.write_bytes(whole)
    assert [item.data for item in reader.read() if isinstance(item, LogRecord)] == [b"second"]
    header = spool_format.file_header(50, ring=False)
    record = spool_format.record_header(50, 1, 0, 0, b"later") + b"later"
    path.write_bytes(whole[:-3])
    (tmp_path / "spool.1").write_bytes(header + record)
    found = _read(LogReader(tmp_path))
    assert LogGap(start=5, end=50) in found
    assert isinstance(found[-1], LogRecord)
    assert log_end(str(tmp_path)).gaps == ((5, 50),)


def test_a_newer_version_waits_for_a_newer_agent(tmp_path: Path) -> None:
    (tmp_path / "spool.0").write_bytes(b"BNKSPOOL" + b"\x02\0\0\0" + bytes(20))
    with pytest.raises(BadMessage, match="newer agent"):
        LogReader(tmp_path).read()


@pytest.mark.parametrize("at", range(12))
def test_a_file_with_a_damaged_head_is_a_gap(tmp_path: Path, at: int) -> None:
    written = Written(tmp_path, quota_bytes=1 << 20)
    written.fill(300 << 10)
    head = bytearray((tmp_path / "spool.1").read_bytes())
    head[at] ^= 0x40
    (tmp_path / "spool.1").write_bytes(head)
    final, _, _ = written.spool.finish()
    found = _read(LogReader(tmp_path), final_offset=final)
    assert sum(isinstance(item, LogGap) for item in found) == 1
    _check(found, written.whole)
    assert len(log_end(str(tmp_path)).gaps) == 1


def test_what_is_no_file_any_more_is_a_gap(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.fill(50 << 10)
    final, _, _ = written.spool.finish()
    (tmp_path / "spool.0").unlink()
    (tmp_path / "spool.0").mkdir()
    assert _read(LogReader(tmp_path), final_offset=final) == [LogGap(start=0, end=final)]
    assert log_end(str(tmp_path)).offset == 0


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_flipped_bit_gives_a_wrong_byte(tmp_path_factory: pytest.TempPathFactory, where: int, bit: int) -> None:
    directory = tmp_path_factory.mktemp("flip")
    written = Written(directory, quota_bytes=1 << 20)
    written.fill(200 << 10)
    final, _, _ = written.spool.finish()
    paths = sorted(directory.iterdir())
    path = paths[where % len(paths)]
    data = bytearray(path.read_bytes())
    data[where // len(paths) % len(data)] ^= 1 << bit
    path.write_bytes(data)
    _check(_read(LogReader(directory), final_offset=final), written.whole)


def test_past_the_limit_the_tail_stays_back_until_the_end(tmp_path: Path) -> None:
    limit = 512 << 10
    written = Written(tmp_path, log_limit_bytes=limit)
    written.fill(3 << 20)
    reader = LogReader(tmp_path)
    head = _read(reader)
    assert reader.offset == limit * 3 // 4
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < limit * 11 // 10
    final, digest, gaps = written.spool.finish()
    rest = _read(reader, final_offset=final)
    checked = _check(head + rest, written.whole)
    assert checked.hex() == digest
    assert (tuple(checked.gaps), len(gaps), final) == (gaps, 1, 3 << 20)
    assert final - gaps[0][1] >= limit // 4 - (limit // 16)
    reader.close()


def test_when_fetched_files_are_deleted_the_log_goes_on_behind_the_gap(tmp_path: Path) -> None:
    quota = 1 << 20
    written = Written(tmp_path, quota_bytes=quota)
    written.fill(3 << 20)  # nobody fetches: the middle is dropped
    reader = LogReader(tmp_path)
    found = _read(reader)
    stuck = reader.offset
    assert stuck < quota
    assert retire(tmp_path, stuck) > 3
    written.fill(1 << 20)  # now there is room again
    found += _read(reader)
    assert reader.offset > 3 << 20
    written.fill(64 << 10)
    final, digest, gaps = written.spool.finish()
    found += _read(reader, final_offset=final)
    checked = _check(found, written.whole)
    assert (checked.hex(), tuple(checked.gaps)) == (digest, gaps)
    reader.close()


def test_fetched_files_go_and_the_newest_stays(tmp_path: Path) -> None:
    written = Written(tmp_path, quota_bytes=1 << 20)
    written.fill(400 << 10)
    reader = LogReader(tmp_path)
    found = _read(reader)
    assert retire(tmp_path, 0) == 0
    assert retire(tmp_path, len(written.whole)) > 2
    assert len(spool_format.file_numbers(str(tmp_path))) == 1
    written.fill(100 << 10)
    found += _read(reader)
    final, digest, gaps = written.spool.finish()
    assert (_check(found, written.whole).hex(), gaps) == (digest, ())
    assert log_end(str(tmp_path)).offset == final
    assert log_end(str(tmp_path)).digest is None
    reader.close()


def test_a_full_disk_leaves_a_gap_and_the_log_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(tmp_path)
    written.append(b"before")
    real = os.writev

    def short_write(descriptor: int, parts: list[bytes]) -> int:
        real(descriptor, [parts[0][:7]])
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "writev", short_write)
    written.append(b"lost")
    monkeypatch.undo()
    written.append(b"also lost: the next try is a second later")
    written.now_ns += SECOND
    written.append(b"after")
    final, digest, gaps = written.spool.finish()
    assert gaps == ((6, len(written.whole) - 5),)
    found = _read(LogReader(tmp_path), final_offset=final)
    assert _check(found, written.whole).hex() == digest
    assert log_end(str(tmp_path)).digest == digest


def test_a_disk_that_stays_full_costs_the_log_only_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(tmp_path)
    written.append(b"before")

    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "writev", no_space)
    for _ in range(2000):
        written.now_ns += 2 * SECOND
        written.append(b"x" * 100)
    final, digest, gaps = written.spool.finish()
    assert gaps == ((6, 200_006),)
    assert _check(_read(LogReader(tmp_path), final_offset=final), written.whole).hex() == digest


def test_syncs_come_after_a_second_or_thirty_two_mebibytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    written = Written(tmp_path)
    written.append(b"x")
    written.spool.sync_if_due(written.now_ns + SECOND - 1)
    assert (synced, written.spool.is_dirty) == ([], True)
    written.spool.sync_if_due(written.now_ns + SECOND)
    assert (len(synced), written.spool.is_dirty) == (1, False)


def test_the_digest_is_what_its_definition_says() -> None:
    data = os.urandom(BLOCK_BYTES + 100)
    digest = LogDigest()
    digest.data(data[:10])
    digest.data(data[10:])
    digest.gap(3 * BLOCK_BYTES + 5)
    digest.gap(3 * BLOCK_BYTES + 9)
    digest.data(b"tail")
    entries = [
        hashlib.sha256(data[:BLOCK_BYTES]).digest(),
        hashlib.sha256(data[BLOCK_BYTES:]).digest(),
        gap_entry(BLOCK_BYTES + 100, 3 * BLOCK_BYTES + 9),
        hashlib.sha256(b"tail").digest(),
    ]
    assert digest.hex() == hashlib.sha256(b"".join(entries)).hexdigest()
    assert digest.gaps == [(BLOCK_BYTES + 100, 3 * BLOCK_BYTES + 9)]
    assert LogDigest().hex() == hashlib.sha256(b"").hexdigest()


@given(cuts=st.lists(st.integers(0, 3 * BLOCK_BYTES), max_size=4))
@settings(max_examples=20, deadline=None)
def test_the_digest_does_not_depend_on_how_the_bytes_come(cuts: list[int]) -> None:
    data = b"0123456789abcdef" * (3 * BLOCK_BYTES // 16)
    whole, parts = LogDigest(), LogDigest()
    whole.data(data)
    edges = [0, *sorted(cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        parts.data(data[begin:end])
    assert parts.hex() == whole.hex()
