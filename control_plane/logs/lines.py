"""Finding where to begin: the offset of the last lines, or of an instant. These functions block."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import datetime

from control_plane.domain.ids import AttemptKey
from control_plane.domain.log import LogRecord
from control_plane.logs.store import LogStore

SCAN_BYTES = 1 << 20

Wanted = Callable[[LogRecord], bool]


def offset_of_last_lines(store: LogStore, key: AttemptKey, lines: int, wanted: Wanted) -> int:
    """Where the last `lines` lines of the wanted records begin; an unfinished last line counts as one."""
    end = store.end(key)
    if lines <= 0:
        return end
    starts = [mark.offset for mark in store.marks(key)]
    missing, behind, last_byte = lines, end, b""
    for start in reversed(starts):
        newlines, tail = _count(store, key, start, behind, wanted)
        if not last_byte and tail:
            last_byte = tail
            missing += last_byte == b"\n"  # the newline that ends the last line begins no further one
        if newlines >= missing:
            return _behind_newline(store, key, start, newlines - missing + 1, wanted)
        missing -= newlines
        behind = start
    return 0


def offset_of_time(store: LogStore, key: AttemptKey, since: datetime) -> int:
    """Where the first record of that time or later begins; the log's end if there is none."""
    marks = store.marks(key)
    place = bisect_right(marks, since, key=lambda mark: mark.at) - 1
    # Many records may bear the mark's very time, also before it.
    while place > 0 and marks[place].at == since:
        place -= 1
    start = marks[place].offset if place > 0 else 0
    for offset, record in _records(store, key, start, store.end(key)):
        if record.at >= since and not record.gap_bytes:
            return offset
    return store.end(key)


def _records(store: LogStore, key: AttemptKey, start: int, end: int) -> Iterator[tuple[int, LogRecord]]:
    offset, cursor = start, None
    while offset < end:
        found = store.read(key, offset, SCAN_BYTES, cursor)
        if not found.records:
            return
        for record in found.records:
            yield offset, record
            offset += record.length
        cursor = found.cursor


def _count(store: LogStore, key: AttemptKey, start: int, end: int, wanted: Wanted) -> tuple[int, bytes]:
    """Newlines in the wanted records that lie in [start, end), and the last byte of them."""
    newlines, last_byte = 0, b""
    for offset, record in _records(store, key, start, end):
        data = record.data[: max(0, end - offset)]
        if data and wanted(record):
            newlines += data.count(b"\n")
            last_byte = data[-1:]
    return newlines, last_byte


def _behind_newline(store: LogStore, key: AttemptKey, start: int, number: int, wanted: Wanted) -> int:
    """The offset behind the newline of this number (from 1) in the wanted records from `start` on."""
    end = store.end(key)
    for offset, record in _records(store, key, start, end):
        if not wanted(record):
            continue
        newlines = record.data.count(b"\n")
        if newlines < number:
            number -= newlines
            continue
        place = -1
        for _ in range(number):
            place = record.data.index(b"\n", place + 1)
        return offset + place + 1
    return end
