"""A sealed log in one file: its records in blocks that are compressed one by one, so that reading can begin anywhere.

The file is a header, the blocks, then a table of the blocks and a footer that says where the table lies. It appears
under its name only when it is whole, and never changes.
"""

import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from control_plane.domain.logs import LogSegment
from control_plane.logs.digest import LogDigest
from control_plane.logs.frames import BadFrame, Frame, decode_all, encode, from_us, to_us
from control_plane.logs.reading import Collector, take_all
from control_plane.logs.segments import sync_directory
from control_plane.logs.store import Cursor, LogRead, Mark

VERSION = 1
GENERATION = 2
BLOCK_BYTES = 256 << 10
LEVEL = 3

_MAGIC = b"BNKSARC\0"
_HEADER = struct.Struct("<8sHxxI")
# first offset, newlines before, time of first record, position, compressed and plain length, crc32 of compressed
_ROW = struct.Struct("<QQqQIII")
# table position, rows, end offset, newlines, crc32 of table and footer
_FOOTER = struct.Struct("<QIQQI8s")


class BadArchive(Exception):
    """A file that is no archive, or whose table has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One row of the table."""

    first_offset: int
    newlines_before: int
    first_at_us: int
    position: int
    packed_bytes: int
    plain_bytes: int
    crc: int


class Archive:
    """An open table over a file; every read opens the file anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb", buffering=0) as file:
            self.stored_bytes = os.fstat(file.fileno()).st_size
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size or _HEADER.unpack(head)[:2] != (_MAGIC, VERSION):
                raise BadArchive(f"{path.name} is not a log archive of version {VERSION}")
            footer = os.pread(file.fileno(), _FOOTER.size, max(0, self.stored_bytes - _FOOTER.size))
            if len(footer) < _FOOTER.size:
                raise BadArchive(f"{path.name} is too short")
            position, rows, self.end, self.newlines, crc, magic = _FOOTER.unpack(footer)
            size = rows * _ROW.size
            table = os.pread(file.fileno(), size, position) if size < self.stored_bytes else b""
        if magic != _MAGIC or len(table) != size or zlib.crc32(footer[:28], zlib.crc32(table)) != crc:
            raise BadArchive(f"the table of {path.name} has changed")
        self.blocks = tuple(
            Block(
                first_offset=row[0], newlines_before=row[1], first_at_us=row[2],
                position=row[3], packed_bytes=row[4], plain_bytes=row[5], crc=row[6],
            )
            for row in _ROW.iter_unpack(table)
        )  # fmt: skip

    def read(self, offset: int, limit_bytes: int, cursor: Cursor | None) -> LogRead:
        """Records from `offset` on. Raises FileNotFoundError when the archive has gone."""
        collector = Collector(offset, self.end, limit_bytes)
        part = max(0, bisect_right(self.blocks, offset, key=lambda block: block.first_offset) - 1)
        position = 0
        if cursor and cursor.generation == GENERATION and cursor.offset == offset and cursor.part < len(self.blocks):
            part, position = cursor.part, cursor.position
        place = None
        while part < len(self.blocks) and not collector.full:
            stopped = self._read_block(part, position, collector)
            place = None if stopped is None else Cursor(GENERATION, part, stopped, collector.offset)
            part, position = part + 1, 0
        return collector.result(place)

    def _read_block(self, part: int, position: int, collector: Collector) -> int | None:
        behind = self.blocks[part + 1].first_offset if part + 1 < len(self.blocks) else self.end
        try:
            plain = memoryview(self._unpack(self.blocks[part]))
            found = decode_all(plain[position:])
            stopped = take_all(collector, found)
        except BadFrame:
            collector.damage(behind, self.blocks[part].first_at_us)
            return None
        return None if stopped is None else position + stopped

    def _unpack(self, block: Block) -> bytes:
        with open(self.path, "rb", buffering=0) as file:
            packed = os.pread(file.fileno(), block.packed_bytes, block.position)
        if len(packed) != block.packed_bytes or zlib.crc32(packed) != block.crc:
            raise BadFrame("the block has changed")
        try:
            plain = zlib.decompress(packed, bufsize=block.plain_bytes)
        except zlib.error as error:
            raise BadFrame(str(error)) from error
        return plain

    def marks(self) -> tuple[Mark, ...]:
        """The beginnings of the blocks."""
        return tuple(
            Mark(offset=block.first_offset, at=from_us(block.first_at_us), newlines_before=block.newlines_before)
            for block in self.blocks
        )

    def index_rows(self) -> tuple[LogSegment, ...]:
        """The archive as one segment."""
        first_at = from_us(self.blocks[0].first_at_us) if self.blocks else None
        row = LogSegment(
            index=1,
            first_offset=0,
            end_offset=self.end,
            first_at=first_at,
            newlines=self.newlines,
            stored_bytes=self.stored_bytes,
        )
        return (row,)

    def verify(self) -> str:
        """The digest of what can be read."""
        digest, offset, cursor = LogDigest(), 0, None
        while offset < self.end:
            found = self.read(offset, 1 << 20, cursor)
            for record in found.records:
                digest.gap(record.gap_bytes)
                if record.data:
                    digest.data(record.data)
            offset, cursor = found.next_offset, found.cursor
        return digest.hex()


def write(path: Path, reads: Iterable[LogRead]) -> None:
    """Put a whole log, read in order from offset 0, into an archive at `path`, durably."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(_HEADER.pack(_MAGIC, VERSION, 0))
            rows: list[bytes] = []
            end = newlines = 0
            for first, plain in _blocks(reads):
                packed = zlib.compress(plain, LEVEL)
                rows.append(
                    _ROW.pack(end, newlines, first.at_us, file.tell(), len(packed), len(plain), zlib.crc32(packed))
                )
                file.write(packed)
                for _, frame in decode_all(memoryview(plain)):
                    end, newlines = frame.end, newlines + frame.data.count(b"\n")
            table, place = b"".join(rows), file.tell()
            head = _FOOTER.pack(place, len(rows), end, newlines, 0, _MAGIC)[:28]
            crc = zlib.crc32(head, zlib.crc32(table))
            file.write(table + _FOOTER.pack(place, len(rows), end, newlines, crc, _MAGIC))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _blocks(reads: Iterable[LogRead]) -> Iterator[tuple[Frame, bytes]]:
    """Blocks of about BLOCK_BYTES of whole records, each with its first record."""
    parts: list[bytes] = []
    size = offset = 0
    first: Frame | None = None
    for found in reads:
        for record in found.records:
            if first is None:
                first = Frame(offset, to_us(record.at), record.step, record.kind, b"", 0, 0)
            pair = encode(record, offset)
            parts += pair
            size += len(pair[0]) + len(pair[1])
            offset += record.length
            if size >= BLOCK_BYTES:
                yield first, b"".join(parts)
                parts, size, first = [], 0, None
    if first is not None:
        yield first, b"".join(parts)
