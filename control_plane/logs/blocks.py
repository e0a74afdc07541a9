"""A log's block file: one entry per finished digest piece, so that opening a long log reads its last MiB only.

An entry is appended after the bytes that it covers have become durable. It is never synced itself: when some are lost,
more is read again, and when one is damaged, everything from it on.
"""

import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from control_plane.logs.digest import DigestEntry
from control_plane.logs.segments import write_all

# kind, segment index, start, end, hash, position, newlines, crc32
_ENTRY = struct.Struct("<B3xIQQ32sQQI")
_GAP, _DATA = 0, 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A finished piece, and the record at which reading goes on: where it lies and the newlines before it."""

    entry: DigestEntry
    segment: int
    position: int
    newlines: int


def encode(checkpoint: Checkpoint) -> bytes:
    """One entry of the file."""
    entry = checkpoint.entry
    kind = _GAP if entry.hash is None else _DATA
    fields = (
        kind, checkpoint.segment, entry.start, entry.end, entry.hash or bytes(32),
        checkpoint.position, checkpoint.newlines,
    )  # fmt: skip
    return _ENTRY.pack(*fields, zlib.crc32(_ENTRY.pack(*fields, 0)[:-4]))


def load(path: Path) -> list[Checkpoint]:
    """The entries that are whole and follow one another from offset 0."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    found: list[Checkpoint] = []
    offset = 0
    for position in range(0, len(data) - _ENTRY.size + 1, _ENTRY.size):
        piece = data[position : position + _ENTRY.size]
        kind, segment, start, end, digest, place, newlines, crc = _ENTRY.unpack(piece)
        if zlib.crc32(piece[:-4]) != crc or start != offset or end <= start:
            break
        offset = end
        found.append(Checkpoint(DigestEntry(start, end, digest if kind == _DATA else None), segment, place, newlines))
    return found


def append(path: Path, number: int, checkpoints: Iterable[Checkpoint]) -> int:
    """Put entries behind the first `number` ones; returns how many there are then."""
    data = b"".join(map(encode, checkpoints))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data, number * _ENTRY.size)
        os.ftruncate(fd, number * _ENTRY.size + len(data))
    finally:
        os.close(fd)
    return number + len(data) // _ENTRY.size
