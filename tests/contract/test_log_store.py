"""What every log store promises: one suite over the files and over the store in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.domain.log import LogKind
from control_plane.logs.files import FileLogStore
from control_plane.logs.store import LogSealed, LogStore
from tests.contract.log_things import KEY, OTHER, T0, content, everything, fill, gap, line
from tests.fakes.log_store import MemoryLogStore


@pytest.fixture(params=["memory", "files", "small files"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], LogStore]]:
    memory = MemoryLogStore()
    opened: list[LogStore] = []

    def build() -> LogStore:
        if request.param == "memory":
            return memory
        segment_bytes = 8 << 20 if request.param == "files" else 300
        opened.append(FileLogStore(tmp_path / "logs", segment_bytes=segment_bytes))
        return opened[-1]

    yield build
    for store in opened:
        store.close()


@pytest.fixture
def store(make: Callable[[], LogStore]) -> LogStore:
    return make()


def test_a_log_that_nobody_began_is_empty(store: LogStore) -> None:
    assert store.end(KEY) == 0
    assert store.read(KEY, 0, 100).records == ()
    assert store.marks(KEY) == store.segments(KEY) == ()
    assert store.digest(KEY) == hashlib.sha256().hexdigest()


def test_records_come_back_as_they_were(store: LogStore) -> None:
    records = [
        line(b"\x00\xff\n", second=1),
        line(b"err\r", kind=LogKind.STDERR, second=2, step=3),
        gap(1000),
        line(b"x" * 500, kind=LogKind.PTY, second=3),
        line(b"ours\n", kind=LogKind.SYSTEM, second=4),
    ]
    fill(store, records)
    assert [record for _, record in everything(store)] == records
    assert store.end(KEY) == sum(record.length for record in records)
    assert sum(row.newlines for row in store.segments(KEY)) == 2


def test_bytes_are_visible_only_after_a_sync(store: LogStore) -> None:
    store.append(KEY, 0, [line(b"one")])
    assert store.end(KEY) == 0
    assert store.read(KEY, 0, 100).records == ()
    store.sync([KEY])
    assert content(store) == b"one"


def test_a_rollback_forgets_what_was_not_synced(store: LogStore) -> None:
    fill(store, [line(b"kept")])
    digest = store.digest(KEY)
    store.append(KEY, 4, [line(b"lost" * 300) for _ in range(3)])
    store.rollback([KEY])
    assert (store.end(KEY), store.digest(KEY)) == (4, digest)
    fill(store, [line(b", told")])
    assert content(store) == b"kept, told"


def test_another_offset_than_the_end_is_refused(store: LogStore) -> None:
    fill(store, [line(b"abc")])
    for offset in (0, 2, 4):
        with pytest.raises(ValueError, match="ends at 3"):
            store.append(KEY, offset, [line(b"x")])


def test_logs_do_not_mix(store: LogStore) -> None:
    store.append(KEY, 0, [line(b"a")])
    store.append(OTHER, 0, [line(b"b")])
    store.sync([KEY, OTHER])
    assert (content(store, KEY), content(store, OTHER)) == (b"a", b"b")


def test_reading_begins_inside_a_record(store: LogStore) -> None:
    fill(store, [line(b"0123456789" * 20), gap(50), line(b"tail")])
    whole = content(store)
    for offset in (0, 1, 199, 200, 225, 250, 253):
        assert content(store, start=offset) == whole[offset:]
    assert store.read(KEY, 254, 100).records == ()


def test_a_read_keeps_to_its_limit_but_always_moves(store: LogStore) -> None:
    fill(store, [line(b"x" * 400) for _ in range(50)])
    assert len(store.read(KEY, 0, 1000).records) <= 3
    assert len(store.read(KEY, 0, 1).records) == 1


def test_a_sealed_log_gets_no_more_bytes_and_reads_the_same(make: Callable[[], LogStore]) -> None:
    store = make()
    records = [line(b"some text, again and again\n" * 30, second=n) for n in range(200)] + [gap(12345), line(b"end")]
    fill(store, records)
    before = everything(store)
    store.seal(KEY)
    with pytest.raises(LogSealed):
        store.append(KEY, store.end(KEY), [line(b"x")])
    store.compress(KEY)
    assert everything(store) == before
    digest = store.digest(KEY)
    assert digest == store.verify(KEY)
    again = make()
    assert everything(again) == before
    assert again.verify(KEY) == digest
    assert again.end(KEY) == sum(record.length for record in records)
    with pytest.raises(LogSealed):
        again.append(KEY, again.end(KEY), [line(b"x")])
    for offset in range(0, again.end(KEY), 9_973):
        assert content(again, start=offset) == content(store)[offset:]


def test_marks_say_where_times_and_lines_lie(store: LogStore) -> None:
    fill(store, [line(b"a line\n" * 20, second=n) for n in range(40)])
    whole = content(store)
    for mark in store.marks(KEY):
        assert whole[: mark.offset].count(b"\n") == mark.newlines_before
        assert mark.at == T0 + timedelta(seconds=mark.offset // 140)
    store.seal(KEY)
    store.compress(KEY)
    for mark in store.marks(KEY):
        assert whole[: mark.offset].count(b"\n") == mark.newlines_before


def test_a_deleted_log_is_gone(make: Callable[[], LogStore], tmp_path: Path) -> None:
    store = make()
    fill(store, [line(b"x" * 1000)] * 40)
    fill(store, [line(b"stays")], OTHER)
    store.seal(KEY)
    store.compress(KEY)
    store.delete(KEY)
    store.delete(KEY)
    assert store.end(KEY) == 0
    assert content(store, OTHER) == b"stays"
    store.delete(OTHER)
    assert not list((tmp_path / "logs").rglob("*"))
