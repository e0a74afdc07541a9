"""Putting a read together from records at their offsets: clipping, limits, and gaps where bytes have changed."""

from collections.abc import Iterable

from control_plane.domain.log import LogKind, LogRecord
from control_plane.logs.frames import Frame, from_us
from control_plane.logs.store import Cursor, LogRead


class Collector:
    """Takes records in offset order until the limit is reached or the end."""

    def __init__(self, offset: int, end: int, limit_bytes: int) -> None:
        self.offset = offset
        self._end = end
        self._room = limit_bytes
        self._records: list[LogRecord] = []
        self._damaged = False

    @property
    def full(self) -> bool:
        return self._damaged or self._room <= 0 or self.offset >= self._end

    def take(self, frame: Frame) -> bool:
        """Add a record; False when it was not wanted any more: it is then the next read's first."""
        offset, end, size = frame.offset, frame.end, len(frame.data)
        if end <= self.offset:
            return True
        if self.full or offset >= self._end:
            return False
        if offset > self.offset:
            self.damage(offset, frame.at_us)
            return False
        if self._records and size > self._room:
            self._room = 0
            return False
        self._records.append(frame.record(self.offset, self._end))
        self._room -= size + 1
        self.offset = min(end, self._end)
        return True

    def damage(self, until: int, at_us: int) -> None:
        """The bytes up to `until` cannot be read: they become a gap, and the read ends."""
        until = min(until, self._end)
        if until > self.offset:
            gap = LogRecord(kind=LogKind.SYSTEM, at=from_us(at_us), gap_bytes=until - self.offset)
            self._records.append(gap)
            self.offset = until
            self._damaged = True

    def result(self, cursor: Cursor | None) -> LogRead:
        """What was collected."""
        return LogRead(records=tuple(self._records), next_offset=self.offset, cursor=cursor, damaged=self._damaged)


def take_all(collector: Collector, frames: Iterable[tuple[int, Frame]]) -> int | None:
    """Feed (position, record) pairs; returns the position behind the last one taken, None if they came to an end.

    No record is looked at behind the committed end, where the writer may be at work.
    """
    for position, frame in frames:
        if not collector.take(frame):
            return position
        if collector.full:
            return position + frame.size
    return None
