"""The digest of a log, in a form that a restart can take up again.

Offset space is cut at every multiple of 1 MiB and at both edges of every gap. In offset order each piece of data adds
its SHA-256 (32 bytes) to an outer SHA-256, each gap its edges (8 bytes each, big endian), gaps that touch being one.
Runners compute the same over the bytes that they spool.
"""

import hashlib
from dataclasses import dataclass

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class DigestEntry:
    """What one finished piece [start, end) adds: its hash, or None for a gap."""

    start: int
    end: int
    hash: bytes | None

    def outer(self) -> bytes:
        """The bytes that go into the outer hash."""
        if self.hash is not None:
            return self.hash
        return self.start.to_bytes(8, "big") + self.end.to_bytes(8, "big")


class LogDigest:
    """Takes bytes and gaps in offset order; finished pieces collect in `fresh` until somebody takes them."""

    def __init__(self) -> None:
        self.offset = 0
        self.fresh: list[DigestEntry] = []
        self._outer = hashlib.sha256()
        self._block = hashlib.sha256()
        self._block_start = 0
        self._gap_start: int | None = None

    def resume(self, entry: DigestEntry) -> None:
        """Take up a piece that was finished before; entries come in order, before any data."""
        self._outer.update(entry.outer())
        self.offset = self._block_start = entry.end

    def data(self, data: bytes) -> None:
        """The next bytes."""
        self._close_gap()
        view = memoryview(data)
        while view:
            room = BLOCK_BYTES - self.offset % BLOCK_BYTES
            piece = view[:room]
            self._block.update(piece)
            self.offset += len(piece)
            if len(piece) == room:
                self._close_block()
            view = view[room:]

    def gap(self, size: int) -> None:
        """The next `size` bytes of offset are absent."""
        if size <= 0:
            return
        self._close_block()
        if self._gap_start is None:
            self._gap_start = self.offset
        self.offset += size

    def hex(self) -> str:
        """The digest of everything so far; more may follow."""
        outer = self._outer.copy()
        if self._gap_start is not None:
            outer.update(DigestEntry(self._gap_start, self.offset, None).outer())
        elif self.offset > self._block_start:
            outer.update(self._block.digest())
        return outer.hexdigest()

    def _close_block(self) -> None:
        if self._gap_start is None and self.offset > self._block_start:
            self._finish(DigestEntry(self._block_start, self.offset, self._block.digest()))
            self._block = hashlib.sha256()

    def _close_gap(self) -> None:
        if self._gap_start is not None:
            self._finish(DigestEntry(self._gap_start, self.offset, None))
            self._gap_start = None

    def _finish(self, entry: DigestEntry) -> None:
        self._outer.update(entry.outer())
        self.fresh.append(entry)
        self._block_start = self.offset
