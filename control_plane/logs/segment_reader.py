"""Reading a log that lies in segment files, from any offset, beside the writer."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from control_plane.domain.logs import LogSegment
from control_plane.logs.digest import LogDigest
from control_plane.logs.frames import BadFrame, from_us
from control_plane.logs.reading import Collector, take_all
from control_plane.logs.recovery import segment_path
from control_plane.logs.segment_log import Committed, SegmentLog
from control_plane.logs.segments import HEADER_BYTES, Segment, scan
from control_plane.logs.store import Cursor, LogRead, Mark

GENERATION = 1


def read(log: SegmentLog, offset: int, limit_bytes: int, cursor: Cursor | None) -> LogRead:
    """Committed records from `offset` on. Raises FileNotFoundError when the segments have gone."""
    committed, segments = log.committed, log.segments
    visible = segments[: committed.segments]
    collector = Collector(offset, committed.end, limit_bytes)
    if not visible or collector.full:
        return collector.result(cursor)
    part = max(0, bisect_right(visible, offset, key=lambda segment: segment.first_offset) - 1)
    position = HEADER_BYTES
    if cursor and cursor.generation == GENERATION and cursor.offset == offset and cursor.part < len(visible):
        part, position = cursor.part, cursor.position
    while True:
        stopped = _read_segment(log.base, visible, part, position, committed, collector)
        if collector.full or part + 1 == len(visible):
            place = None if stopped is None else Cursor(GENERATION, part, stopped, collector.offset)
            return collector.result(place)
        part, position = part + 1, HEADER_BYTES


def _read_segment(
    base: Path, visible: Sequence[Segment], part: int, position: int, committed: Committed, collector: Collector
) -> int | None:
    """Feed one segment; returns where the next read goes on, None when it must search."""
    segment = visible[part]
    behind = visible[part + 1].first_offset if part + 1 < len(visible) else committed.end
    fd = os.open(segment_path(base, segment.index), os.O_RDONLY | os.O_CLOEXEC)
    try:
        stopped = take_all(collector, scan(fd, position, hop=True))
        if stopped is None and collector.offset < behind:
            collector.damage(behind, segment.first_at_us)
    except BadFrame:
        if collector.offset < behind:
            collector.damage(behind, segment.first_at_us)
        return None
    else:
        return stopped
    finally:
        os.close(fd)


def marks(log: SegmentLog) -> tuple[Mark, ...]:
    """The beginnings of the visible segments."""
    return tuple(
        Mark(offset=segment.first_offset, at=from_us(segment.first_at_us), newlines_before=segment.newlines_before)
        for segment in log.segments[: log.committed.segments]
    )


def index_rows(log: SegmentLog) -> tuple[LogSegment, ...]:
    """One row per visible segment."""
    committed = log.committed
    visible = log.segments[: committed.segments]
    rows: list[LogSegment] = []
    for number, segment in enumerate(visible):
        following = visible[number + 1] if number + 1 < len(visible) else None
        rows.append(
            LogSegment(
                index=segment.index,
                first_offset=segment.first_offset,
                end_offset=following.first_offset if following else committed.end,
                first_at=from_us(segment.first_at_us),
                newlines=(following.newlines_before if following else committed.newlines) - segment.newlines_before,
                stored_bytes=os.stat(segment_path(log.base, segment.index)).st_size,
            )
        )
    return tuple(rows)


def verify(log: SegmentLog) -> str:
    """The digest of what can be read."""
    digest, offset, cursor = LogDigest(), 0, None
    while offset < log.committed.end:
        found = read(log, offset, 1 << 20, cursor)
        for record in found.records:
            digest.gap(record.gap_bytes)
            if record.data:
                digest.data(record.data)
        offset, cursor = found.next_offset, found.cursor
    return digest.hex()
