"""How records lie in a file: a header of 28 bytes with a CRC-32 over itself and the payload, then the payload."""

import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from control_plane.domain.log import LogKind, LogRecord

MAX_PAYLOAD_BYTES = 4 << 20

# crc32, payload length, offset, time (microseconds since 1970), step, kind, flags
_HEADER = struct.Struct("<IIQqHBB")
_GAP_SIZE = struct.Struct("<Q")
HEADER_BYTES = _HEADER.size
_GAP = 1
_CODES = {LogKind.STDOUT: 1, LogKind.STDERR: 2, LogKind.PTY: 3, LogKind.SYSTEM: 4, LogKind.EVENT: 5}
_KINDS = {code: kind for kind, code in _CODES.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class BadFrame(Exception):
    """Bytes that are no whole record: torn, or changed after they were written."""


class Frame(NamedTuple):
    """One record at its offset; a tuple, because one is made for every record that is read.

    `kind` is None for a kind that a later version wrote; `size` counts bytes of file.
    """

    offset: int
    at_us: int
    step: int
    kind: LogKind | None
    data: bytes
    gap_bytes: int
    size: int

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + len(self.data) + self.gap_bytes

    def record(self, start: int, end: int) -> LogRecord:
        """The part of it that lies in [start, end); a later version's kind reads as a gap."""
        at = _EPOCH + timedelta(microseconds=self.at_us)
        offset, data = self.offset, self.data
        last = min(end, offset + len(data) + self.gap_bytes)
        if self.gap_bytes or self.kind is None:
            kind = self.kind or LogKind.SYSTEM
            return LogRecord(kind=kind, at=at, step=self.step, gap_bytes=last - max(start, offset))
        if start > offset or last < offset + len(data):
            data = data[max(start, offset) - offset : last - offset]
        return LogRecord(kind=self.kind, at=at, step=self.step, data=data)


def to_us(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(at_us: int) -> datetime:
    """The instant, aware, UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


def encode(record: LogRecord, offset: int) -> tuple[bytes, bytes]:
    """Header and payload of a record that begins at `offset`."""
    flags, payload = 0, record.data
    if record.gap_bytes:
        flags, payload = _GAP, _GAP_SIZE.pack(record.gap_bytes)
    code = _CODES[record.kind]
    body = _HEADER.pack(0, len(payload), offset, to_us(record.at), record.step, code, flags)[4:]
    return zlib.crc32(payload, zlib.crc32(body)).to_bytes(4, "little") + body, payload


def decode(buffer: memoryview, position: int) -> Frame | None:
    """The record at `position`; None when the buffer ends before it does. Raises BadFrame."""
    if len(buffer) - position < HEADER_BYTES:
        return None
    crc, length, offset, at_us, step, code, flags = _HEADER.unpack_from(buffer, position)
    if length > MAX_PAYLOAD_BYTES:
        raise BadFrame(f"a record of {length} bytes")
    start = position + HEADER_BYTES
    end = start + length
    if len(buffer) < end:
        return None
    payload = bytes(buffer[start:end])
    if zlib.crc32(payload, zlib.crc32(buffer[position + 4 : start])) != crc:
        raise BadFrame("the checksum differs")
    gap_bytes = 0
    if flags & _GAP:
        (gap_bytes,) = _GAP_SIZE.unpack(payload)
        payload = b""
    return Frame(offset, at_us, step, _KINDS.get(code), payload, gap_bytes, HEADER_BYTES + length)


def wanted_bytes(buffer: memoryview, position: int) -> int:
    """How many bytes the record at `position` takes in all, as far as its beginning tells."""
    if len(buffer) - position < HEADER_BYTES:
        return HEADER_BYTES
    length = int(_HEADER.unpack_from(buffer, position)[1])
    return HEADER_BYTES + min(length, MAX_PAYLOAD_BYTES)


def decode_all(buffer: memoryview) -> Iterator[tuple[int, Frame]]:
    """(position, record) of every record in a buffer that holds whole ones. Raises BadFrame."""
    position = 0
    while position < len(buffer):
        frame = decode(buffer, position)
        if frame is None:
            raise BadFrame("the last record is not whole")
        yield position, frame
        position += frame.size
