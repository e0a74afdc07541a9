"""When the bytes of a busy stream are let gather for a moment, so that many small writes cost few turns of the loop.

A turn, and all that follows it up to the reader of the log, costs the same for few bytes or many. The first bytes after
a pause never wait.
"""

from __future__ import annotations

REST_S = 0.0005
# More than this is taken at once: the program must not find its pipe full.
ENOUGH_BYTES = 64 << 10
BUSY_NS = 1_000_000
BUSY_READS = 4


class Pace:
    """One stream's. Times are of one monotonic clock, in nanoseconds."""

    def __init__(self) -> None:
        self._read_ns = -BUSY_NS - 1
        self._rested_ns = -BUSY_NS - 1
        self._in_a_row = 0

    def is_busy(self, now_ns: int) -> bool:
        """Asked when the stream is ready: whether it has been ready again at once some times in a row, and may rest."""
        if now_ns - self._read_ns > BUSY_NS:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        return self._in_a_row >= BUSY_READS and now_ns - self._rested_ns > BUSY_NS

    def has_rested(self, now_ns: int) -> None:
        """A rest is over."""
        self._rested_ns = now_ns

    def has_read(self, now_ns: int) -> None:
        """Bytes were read and dealt with."""
        self._read_ns = now_ns
