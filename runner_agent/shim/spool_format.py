"""The spool's files: `spool.N`, append-only records behind a versioned header.

A file starts with 32 bytes: magic, version, flags, offset of its first byte. A record is a header of 28 bytes (length,
kind, step, offset, wall time, CRC-32 over header and payload) and up to 64 KiB of payload. Offsets count masked bytes
from the attempt's first. A jump in offsets from one record to the next is a gap: those bytes are not kept. Files with
the RING flag are the last part of a log that has outgrown its limit: the writer may still delete the oldest of them, so
they are read only when a later file without that flag exists or the attempt has ended.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator

from runner_agent.shim.codec import BadMessage
from runner_agent.shim.records import dataclass

SPOOL_VERSION = 1
MAX_PAYLOAD_BYTES = 64 << 10
STDOUT = 1
STDERR = 2
PTY = 3
SYSTEM = 4
RING = 1

_FILE_HEADER = struct.Struct("<8sIIQ8x")
_RECORD_HEADER = struct.Struct("<IBBHQq")
_CRC = struct.Struct("<I")
_MAGIC = b"BNKSPOOL"
FILE_HEADER_BYTES = _FILE_HEADER.size
RECORD_HEADER_BYTES = _RECORD_HEADER.size + _CRC.size
_PREFIX = "spool."
# The disk's word that a file's bytes will not come back; whatever else fails (too many open files) is tried again.
_LOST_FOR_GOOD = (errno.EISDIR, errno.EIO, errno.ELOOP, errno.ENXIO, errno.EUCLEAN, errno.EBADMSG)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolFile:
    """What a file's header says."""

    number: int
    first_offset: int
    ring: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record. `time_ns` is wall clock; `kind` is one of STDOUT, STDERR, PTY, SYSTEM or a later version's.

    Its data may be a part of what it was parsed from.
    """

    offset: int
    kind: int
    step: int
    time_ns: int
    data: bytes | memoryview


def file_name(number: int) -> str:
    """The name of the spool's file with this number."""
    return f"{_PREFIX}{number}"


def file_numbers(directory: str) -> list[int]:
    """The numbers of the spool files in a run directory, ascending; none if it was removed. Raises OSError."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        if os.path.isdir(os.path.dirname(directory)):  # else it is all of the disk that is away, and may come back
            return []
        raise
    return sorted(int(name[len(_PREFIX) :]) for name in names if name.startswith(_PREFIX) and name[6:].isdecimal())


def file_header(first_offset: int, *, ring: bool) -> bytes:
    """The header of a new file."""
    return _FILE_HEADER.pack(_MAGIC, SPOOL_VERSION, RING if ring else 0, first_offset)


def parse_file_header(number: int, data: bytes) -> SpoolFile | None:
    """The header in `data`; None while it is not whole, and for good if it is damaged. Raises BadMessage if newer.

    A newer version is only believed if it is the next one: any other number is damage.
    """
    if len(data) < FILE_HEADER_BYTES:
        return None
    magic, version, flags, first_offset = _FILE_HEADER.unpack_from(data)
    if magic == _MAGIC and version == SPOOL_VERSION + 1:
        raise BadMessage(f"{file_name(number)} is a spool file of version {version}, which needs a newer agent")
    if magic != _MAGIC or version != SPOOL_VERSION:
        return None
    return SpoolFile(number=number, first_offset=first_offset, ring=bool(flags & RING))


def is_lost_for_good(error: OSError) -> bool:
    """Whether what could not be read will never be: its bytes become a gap."""
    return error.errno in _LOST_FOR_GOOD


def record_header(offset: int, kind: int, step: int, time_ns: int, payload: bytes | memoryview) -> bytes:
    """The header that goes before `payload`."""
    head = _RECORD_HEADER.pack(len(payload), kind, step, 0, offset, time_ns)
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head)))


def parse_record(buffer: bytes | memoryview, at: int) -> tuple[Record, int] | None:
    """The record at position `at` and the position after it; None if it is torn, damaged or not yet whole."""
    body = at + RECORD_HEADER_BYTES
    if len(buffer) < body:
        return None
    length, kind, step, _, offset, time_ns = _RECORD_HEADER.unpack_from(buffer, at)
    end = body + length
    if length > MAX_PAYLOAD_BYTES or len(buffer) < end:
        return None
    (crc,) = _CRC.unpack_from(buffer, body - _CRC.size)
    data = buffer[body:end]
    if crc != zlib.crc32(data, zlib.crc32(buffer[at : body - _CRC.size])):
        return None
    return Record(offset=offset, kind=kind, step=step, time_ns=time_ns, data=data), end


def read_records(directory: str, number: int) -> Iterator[Record]:
    """The whole records of one file, up to the first torn or damaged one. Raises OSError, BadMessage (a newer one)."""
    try:
        yield from _read_records(directory, number)
    except OSError as error:
        if not is_lost_for_good(error):
            raise


def _read_records(directory: str, number: int) -> Iterator[Record]:
    with open(os.path.join(directory, file_name(number)), "rb") as file:
        if parse_file_header(number, file.read(FILE_HEADER_BYTES)) is None:
            return
        held, at = b"", 0
        while True:
            parsed = parse_record(held, at)
            if parsed is not None:
                yield parsed[0]
                at = parsed[1]
                continue
            more = file.read(4 * MAX_PAYLOAD_BYTES)
            if not more:
                return
            held, at = held[at:] + more, 0
