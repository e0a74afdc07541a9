"""The digest of a log: SHA-256 over the SHA-256s of its blocks and over its gaps.

Offset space is cut at every multiple of 1 MiB and at both edges of every gap. In offset order, each piece of data adds
its SHA-256 (32 bytes) to the outer hash, each gap adds its edges, from and to (8 bytes each, big endian, the whole gap
at once, wherever blocks end). Gaps that touch are one gap. The digest is the outer SHA-256 in hex.
"""

from __future__ import annotations

import hashlib

BLOCK_BYTES = 1 << 20


class LogDigest:
    """Takes data and gaps in offset order. Memory is constant but for the list of gaps."""

    def __init__(self) -> None:
        self.offset = 0
        self.gaps: list[tuple[int, int]] = []
        self._outer = hashlib.sha256()
        self._block = hashlib.sha256()
        self._in_block = 0
        self._gap_open = False

    def data(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        self._close_gap()
        view = memoryview(data)
        while view:
            room = BLOCK_BYTES - self.offset % BLOCK_BYTES
            piece = view[:room]
            self._block.update(piece)
            self._in_block += len(piece)
            self.offset += len(piece)
            if len(piece) == room:
                self._close_block()
            view = view[len(piece) :]

    def gap(self, to: int) -> None:
        """The bytes from here up to offset `to` are not kept."""
        if to <= self.offset:
            return
        self._close_block()
        start = self.gaps.pop()[0] if self._gap_open else self.offset
        self.gaps.append((start, to))
        self._gap_open = True
        self.offset = to

    def hex(self) -> str:
        """The digest of what was taken so far; more may follow."""
        outer = self._outer.copy()
        if self._gap_open:
            outer.update(gap_entry(*self.gaps[-1]))
        elif self._in_block:
            outer.update(self._block.digest())
        return outer.hexdigest()

    def _close_block(self) -> None:
        if self._in_block:
            self._outer.update(self._block.digest())
            self._block = hashlib.sha256()
            self._in_block = 0

    def _close_gap(self) -> None:
        if self._gap_open:
            self._outer.update(gap_entry(*self.gaps[-1]))
            self._gap_open = False


def gap_entry(start: int, end: int) -> bytes:
    """What a gap adds to the outer hash."""
    return start.to_bytes(8, "big") + end.to_bytes(8, "big")
