"""Records, and whole logs read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.logs.store import LogStore

KEY = AttemptKey(run_id=RunId("0190b3a0-0000-7000-8000-0000000000aa"), lease_epoch=1)
OTHER = AttemptKey(run_id=RunId("0190b3a0-0000-7000-8000-0000000000bb"), lease_epoch=7)
T0 = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def line(data: bytes, *, kind: LogKind = LogKind.STDOUT, second: int = 0, step: int = 0) -> LogRecord:
    return LogRecord(kind=kind, at=T0 + timedelta(seconds=second), step=step, data=data)


def gap(size: int) -> LogRecord:
    return LogRecord(kind=LogKind.SYSTEM, at=T0, gap_bytes=size)


def fill(store: LogStore, records: list[LogRecord], key: AttemptKey = KEY) -> None:
    store.append(key, store.end(key), records)
    store.sync([key])


def everything(
    store: LogStore, key: AttemptKey = KEY, *, start: int = 0, limit: int = 64 << 10
) -> list[tuple[int, LogRecord]]:
    found, offset, cursor = [], start, None
    while True:
        read = store.read(key, offset, limit, cursor)
        if not read.records:
            return found
        for record in read.records:
            found.append((offset, record))
            offset += record.length
        assert offset == read.next_offset
        cursor = read.cursor


def content(store: LogStore, key: AttemptKey = KEY, *, start: int = 0) -> bytes:
    """The log's bytes, with NULs where bytes are absent."""
    return b"".join(record.data + bytes(record.gap_bytes) for _, record in everything(store, key, start=start))
