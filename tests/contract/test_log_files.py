"""What log files promise beyond every store: crashes, changed bytes, restarts, and the runners' digest."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.domain.ids import AttemptKey, RunId
from control_plane.logs import recovery
from control_plane.logs.digest import LogDigest
from control_plane.logs.files import FileLogStore
from control_plane.logs.store import LogDamaged, LogMissing
from runner_agent.shim.digest import LogDigest as ShimDigest
from tests.contract.log_things import KEY, OTHER, content, everything, fill, gap, line

pieces = st.lists(st.one_of(st.binary(min_size=1, max_size=700), st.integers(1, 900)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(pieces=pieces, commits=st.integers(1, 5), limit=st.integers(1, 2000), data=st.data())
def test_any_log_reads_the_same_from_any_offset(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes | int], commits: int, limit: int, data: st.DataObject
) -> None:
    store = FileLogStore(tmp_path_factory.mktemp("logs"), segment_bytes=1000)
    expected = b""
    digest = LogDigest()
    for number, piece in enumerate(pieces):
        record = line(piece) if isinstance(piece, bytes) else gap(piece)
        store.append(KEY, len(expected), [record])
        expected += record.data + bytes(record.gap_bytes)
        if record.gap_bytes:
            digest.gap(record.gap_bytes)
        else:
            digest.data(record.data)
        if number % commits == 0:
            store.sync([KEY])
    store.sync([KEY])
    start = data.draw(st.integers(0, len(expected)))
    found = everything(store, start=start, limit=limit)
    assert b"".join(record.data + bytes(record.gap_bytes) for _, record in found) == expected[start:]
    assert store.digest(KEY) == digest.hex()
    store.close()
    again = FileLogStore(store._root, segment_bytes=1000)
    assert (content(again), again.digest(KEY)) == (expected, digest.hex())
    again.close()


blocks = st.lists(
    st.tuples(st.booleans(), st.sampled_from([1, 5, 700_000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(pieces=blocks, cut=st.integers(4_096, 1 << 20))
def test_both_houses_compute_the_same_digest(pieces: list[tuple[bool, int]], cut: int) -> None:
    ours, theirs, offset = LogDigest(), ShimDigest(), 0
    source = random.Random(7).randbytes(3 << 20)
    for is_gap, size in pieces:
        offset += size
        if is_gap:
            ours.gap(size)
            theirs.gap(offset)
            continue
        payload = source[:size]
        theirs.data(payload)
        for start in range(0, size, cut):
            ours.data(payload[start : start + cut])
    assert ours.hex() == theirs.hex()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_a_restart_reads_at_most_the_last_block_again(root: Path) -> None:
    store = FileLogStore(root)
    source = random.Random(1)
    for _ in range(50):
        fill(store, [line(source.randbytes(50_000)) for _ in range(10)])
    digest, end = store.digest(KEY), store.end(KEY)
    store.close()
    found = recovery.recover(store._base(KEY))
    assert (found.digest.hex(), found.end) == (digest, end)
    assert found.checkpoints == end // (1 << 20)
    assert found.read_bytes <= (1 << 20) + 50_028 + 28 * 25
    assert found.newlines == content(store).count(b"\n")


def test_a_sealed_log_opens_without_being_read_whole(root: Path) -> None:
    store = FileLogStore(root)
    fill(store, [line(b"x" * 50_000) for _ in range(100)])
    store.seal(KEY)
    base = store._base(KEY)
    store.close()
    assert recovery.recover(base).read_bytes <= 1 << 20


@pytest.mark.parametrize("torn", [1, 13, 27, 28, 29, 60])
def test_a_torn_end_is_cut_at_the_last_whole_record(root: Path, torn: int) -> None:
    store = FileLogStore(root)
    fill(store, [line(b"a whole record\n")])
    digest = store.digest(KEY)
    store.append(KEY, store.end(KEY), [line(b"y" * 40)])
    store.sync([KEY])
    store.close()
    (path,) = files_of(root)
    os.truncate(path, path.stat().st_size - torn)
    again = FileLogStore(root)
    assert (content(again), again.digest(KEY)) == (b"a whole record\n", digest)
    fill(again, [line(b"goes on")])
    assert content(FileLogStore(root)) == b"a whole record\ngoes on"


def test_zeros_behind_the_last_record_are_a_torn_end(root: Path) -> None:
    store = FileLogStore(root)
    fill(store, [line(b"kept")])
    store.close()
    (path,) = files_of(root)
    os.truncate(path, path.stat().st_size + 5000)
    assert content(FileLogStore(root)) == b"kept"


def test_a_segment_whose_header_was_never_written_is_made_anew(root: Path) -> None:
    store = FileLogStore(root, segment_bytes=100)
    fill(store, [line(b"x" * 90), line(b"y" * 90)])
    store.close()
    files = files_of(root)
    os.truncate(files[-1], 10)
    again = FileLogStore(root, segment_bytes=100)
    assert content(again) == b"x" * 90
    fill(again, [line(b"z" * 90)])
    assert content(FileLogStore(root, segment_bytes=100)) == b"x" * 90 + b"z" * 90


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def test_a_flipped_bit_is_a_gap_and_never_wrong_bytes(root: Path) -> None:
    """Each bit position of a sealed log in segments: what is read is right or absent, the length stays."""
    store = FileLogStore(root, segment_bytes=400)
    fill(store, [line(bytes([65 + n]) * 60) for n in range(12)])
    store.seal(KEY)
    digest, whole = store.digest(KEY), content(store)
    store.close()
    path = files_of(root)[1]
    clean = path.read_bytes()
    for position in range(len(clean)):
        flip(path, position)
        again = FileLogStore(root, segment_bytes=400)
        read = content(again)
        assert len(read) == len(whole)
        assert all(got in (byte, 0) for got, byte in zip(read, whole, strict=True))
        assert read == whole or again.verify(KEY) != digest
        again.close()
        path.write_bytes(clean)
    assert content(FileLogStore(root, segment_bytes=400)) == whole


def test_a_flipped_bit_costs_one_record_only(root: Path) -> None:
    store = FileLogStore(root)
    fill(store, [line(b"aaaa"), line(b"bbbb"), line(b"cccc")])
    store.seal(KEY)
    store.close()
    (path,) = files_of(root)
    flip(path, path.read_bytes().index(b"bbbb"))
    again = FileLogStore(root)
    assert content(again) == b"aaaa" + bytes(4) + b"cccc"
    assert again.read(KEY, 0, 1000).damaged
    with pytest.raises(LogDamaged):
        fill_and_compress_damaged(again)


def fill_and_compress_damaged(store: FileLogStore) -> None:
    store._worth_it = lambda log: True  # type: ignore[method-assign]
    store.compress(KEY)


def test_a_flipped_bit_in_an_archive_is_a_gap(root: Path) -> None:
    store = FileLogStore(root)
    source = random.Random(3)
    whole = source.randbytes(1 << 20)
    fill(store, [line(whole[start : start + 4096]) for start in range(0, len(whole), 4096)])
    store.seal(KEY)
    assert store.compress(KEY)
    digest = store.digest(KEY)
    store.close()
    (path,) = files_of(root)
    assert path.suffix == ".arc"
    flip(path, path.stat().st_size // 2)
    again = FileLogStore(root)
    read = content(again)
    assert len(read) == len(whole)
    assert read != whole
    assert all(got in (byte, 0) for got, byte in zip(read, whole, strict=True))
    assert again.verify(KEY) != digest


def test_compressing_makes_text_small_and_removes_the_segments(root: Path) -> None:
    store = FileLogStore(root, segment_bytes=64 << 10)
    fill(store, [line(b"building target number 17 of many\n" * 100) for _ in range(300)])
    size = sum(path.stat().st_size for path in files_of(root))
    store.seal(KEY)
    assert store.compress(KEY)
    assert not store.compress(KEY)
    (path,) = files_of(root)
    assert path.stat().st_size < size / 10
    assert len(store.segments(KEY)) == 1


def test_a_crash_between_archive_and_removal_leaves_one_log(root: Path) -> None:
    store = FileLogStore(root, segment_bytes=64 << 10)
    fill(store, [line(b"text\n" * 1000) for _ in range(100)])
    whole = content(store)
    store.seal(KEY)
    kept = {path: path.read_bytes() for path in files_of(root)}
    store.compress(KEY)
    store.close()
    for path, data in kept.items():
        path.write_bytes(data)
    again = FileLogStore(root)
    assert content(again) == whole
    assert [path.suffix for path in files_of(root)] == [".arc"]


def test_a_reader_goes_on_while_its_log_is_compressed_and_learns_of_its_deletion(root: Path) -> None:
    store = FileLogStore(root)
    fill(store, [line(b"text %d\n" % n * 1000) for n in range(100)])
    whole = content(store)
    store.seal(KEY)
    first = store.read(KEY, 0, 100_000)
    store.compress(KEY)
    got = b"".join(record.data for record in first.records) + content(store, start=first.next_offset)
    assert got == whole
    second = store.read(KEY, 0, 100_000)
    files_of(root)[0].unlink()
    assert store.read(KEY, second.next_offset, 100, second.cursor).records == ()


def test_segments_that_vanish_under_a_reader_are_missing_not_empty(root: Path) -> None:
    store = FileLogStore(root)
    fill(store, [line(b"text")])
    log = store._open(KEY)
    files_of(root)[0].unlink()
    store._load = lambda key: log  # type: ignore[method-assign]
    with pytest.raises(LogMissing):
        store.read(KEY, 0, 100)


def test_many_logs_need_few_open_files(root: Path) -> None:
    store = FileLogStore(root, open_logs=4)
    keys = [AttemptKey(run_id=RunId(f"0190b3a0-run-{n}"), lease_epoch=1) for n in range(30)]
    for round_number in range(3):
        for key in keys:
            store.append(key, round_number, [line(b"x")])
            assert len(os.listdir("/proc/self/fd")) < 500
        store.sync(keys)
        assert len(store._logs) <= len(keys)
        store.end(OTHER)
        assert len(store._logs) <= 4
    assert all(content(store, key) == b"xxx" for key in keys)


def test_a_run_id_that_is_no_file_name_is_refused(root: Path) -> None:
    store = FileLogStore(root)
    for bad in ("../x", "", "a/b", "a.b", "x" * 65):
        with pytest.raises(ValueError, match="file name"):
            store.end(AttemptKey(run_id=RunId(bad), lease_epoch=1))


@pytest.mark.parametrize("segment_bytes", [8 << 20, 3_000])
def test_a_write_that_the_kernel_cuts_off_leaves_no_trace(root: Path, segment_bytes: int) -> None:
    store = FileLogStore(root, segment_bytes=segment_bytes)
    fill(store, [line(b"safe " * 100)])
    digest = store.digest(KEY)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))  # the next write gets part of its bytes in, then fails
    try:
        with pytest.raises(OSError, match="too large"):
            store.append(KEY, 500, [line(bytes([65 + n]) * 2_500) for n in range(3)] + [line(b"z" * 9_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.rollback([KEY])
    assert (store.end(KEY), store.digest(KEY)) == (500, digest)
    fill(store, [line(b"and on " * 2_000)])
    store.close()
    assert content(FileLogStore(root, segment_bytes=segment_bytes)) == b"safe " * 100 + b"and on " * 2_000


def test_nothing_is_taken_in_when_the_disk_is_nearly_full(root: Path) -> None:
    store = FileLogStore(root, reserve_bytes=1 << 62)
    store.append(KEY, 0, [line(b"x")])
    with pytest.raises(OSError, match="reserve"):
        store.sync([KEY])
    store.rollback([KEY])
    assert store.end(KEY) == 0
