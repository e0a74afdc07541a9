"""Segment files: a versioned header, then records. Reading them, whole or from a position, and finding torn ends."""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane.logs.frames import BadFrame, Frame, decode, wanted_bytes

VERSION = 1
READ_BYTES = 256 << 10
# The kernel takes 1,024 parts; parts of less than this on average are better joined.
PARTS_AT_ONCE = 1_000
JOINED_BYTES = 4 << 10

_MAGIC = b"BNKSLOG\0"
# magic, version, header length, segment index, lease epoch, first offset, newlines before, time of first record, crc32
_HEADER = struct.Struct("<8sHHIqQQqI")
# Behind it, written when the log is sealed: its end, crc32.
_SEAL = struct.Struct("<QI")
HEADER_BYTES = _HEADER.size + _SEAL.size


class BadHeader(Exception):
    """A file that is no segment: cut off while it was made, of a later version, or changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What a segment's header says. The last one of a sealed log knows where the log ends."""

    index: int
    first_offset: int
    newlines_before: int
    first_at_us: int
    sealed_end: int | None = None


def encode_header(segment: Segment, lease_epoch: int) -> bytes:
    """The first bytes of a segment file."""
    fields = (
        _MAGIC, VERSION, HEADER_BYTES, segment.index, lease_epoch,
        segment.first_offset, segment.newlines_before, segment.first_at_us,
    )  # fmt: skip
    return _HEADER.pack(*fields, zlib.crc32(_HEADER.pack(*fields, 0)[:-4])) + bytes(_SEAL.size)


def write_seal(path: Path, end: int) -> None:
    """Note in the last segment that the log ends at `end`. Not synced: the database knows it too."""
    data = end.to_bytes(8, "little")
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        write_all(fd, data + zlib.crc32(data).to_bytes(4, "little"), _HEADER.size)
    finally:
        os.close(fd)


def decode_header(data: bytes) -> Segment:
    """The header of a segment file. Raises BadHeader."""
    if len(data) < HEADER_BYTES:
        raise BadHeader("it is too short")
    magic, version, _, index, _, first_offset, newlines, at_us, crc = _HEADER.unpack_from(data)
    if magic != _MAGIC or zlib.crc32(data[: _HEADER.size - 4]) != crc:
        raise BadHeader("it is not a log segment, or was changed")
    if version != VERSION:
        raise BadHeader(f"it has version {version}, this program reads {VERSION}")
    end, seal_crc = _SEAL.unpack_from(data, _HEADER.size)
    sealed = zlib.crc32(data[_HEADER.size : _HEADER.size + 8]) == seal_crc
    return Segment(
        index=index,
        first_offset=first_offset,
        newlines_before=newlines,
        first_at_us=at_us,
        sealed_end=end if sealed else None,
    )


def read_header(path: Path) -> Segment:
    """The header of the segment file at `path`. Raises BadHeader, OSError."""
    with open(path, "rb", buffering=0) as file:
        return decode_header(file.read(HEADER_BYTES))


def scan(fd: int, position: int = HEADER_BYTES, *, hop: bool = False) -> Iterator[tuple[int, Frame]]:
    """(position, record) for each record of an open file from `position` on.

    Ends quietly where the file ends behind a whole record; raises BadFrame at a torn or changed one. With `hop` a
    changed record is passed over when a whole one lies behind it: the caller sees a jump in the offsets.
    """
    buffer, base, wanted, hopped = b"", position, READ_BYTES, False
    while True:
        more = os.pread(fd, wanted, base + len(buffer))
        buffer = buffer + more if buffer else more
        view, at = memoryview(buffer), 0
        while True:
            try:
                frame = decode(view, at)
            except BadFrame:
                if not hop or hopped:
                    raise
                # Only its length is believed, and only if a whole record proves it right.
                hopped, at = True, at + wanted_bytes(view, at)
                continue
            if frame is None:
                break
            hopped = False
            yield base + at, frame
            at += frame.size
        if not more:
            if at != len(buffer):
                raise BadFrame("the last record is not whole")
            return
        wanted = max(READ_BYTES, wanted_bytes(view, at))
        buffer, base = buffer[at:], base + at


def write_all(fd: int, data: bytes, position: int) -> None:
    """pwrite until everything is written."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written


def write_parts(fd: int, parts: Sequence[bytes], position: int) -> None:
    """pwrite them behind one another; many small ones are put together first, large ones are not copied."""
    size = sum(map(len, parts))
    if len(parts) > PARTS_AT_ONCE or size < len(parts) * JOINED_BYTES:
        write_all(fd, b"".join(parts), position)
        return
    written = os.pwritev(fd, parts, position)
    if written < size:
        write_all(fd, b"".join(parts)[written:], position + written)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
