"""One log that still grows, as segment files: appending, making durable, taking back."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from control_plane.domain.log import LogRecord
from control_plane.logs import blocks
from control_plane.logs.digest import BLOCK_BYTES
from control_plane.logs.frames import encode, to_us
from control_plane.logs.recovery import blocks_path, recover, segment_path
from control_plane.logs.segments import (
    HEADER_BYTES,
    Segment,
    encode_header,
    sync_directory,
    write_all,
    write_parts,
    write_seal,
)

# Records of this size gain nothing from being hashed together: their bytes would only be copied.
LARGE_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Committed:
    """What readers may see: offsets below `end`, and where the log ends on disk."""

    end: int
    newlines: int
    segments: int
    position: int


class SegmentLog:
    """The files `<base>.NNNNNN.seg`. Opening it repairs what a crash left. Writing is for one thread at a time."""

    def __init__(self, base: Path, lease_epoch: int, segment_bytes: int) -> None:
        self.base = base
        self._lease_epoch = lease_epoch
        self._segment_bytes = segment_bytes
        found = recover(base)
        self.recovered_bytes = found.read_bytes
        self.segments = list(found.segments)
        self.end = found.end
        self._newlines = found.newlines
        self._position = found.position
        self._digest = found.digest
        # What was appended and is not yet counted and digested: records, and where they lie.
        self._unsettled: list[tuple[LogRecord, int]] = []
        self._settled = found.end
        self._checkpoints = found.checkpoints
        self._pending: list[blocks.Checkpoint] = []
        # Records of one append that are hashed together, and where the first of them lies.
        self._waiting: list[bytes] = []
        self._waiting_position = 0
        self._fd: int | None = None
        # Files that have unsynced bytes and are no longer the last one.
        self._full: list[int] = []
        # The newest file that is full and on disk: followers still read it from memory.
        self._warm: int | None = None
        self._new_names = False
        self.dirty = False
        self.sealed = found.sealed
        self.committed = Committed(self.end, self._newlines, len(self.segments), self._position)

    def append(self, records: Sequence[LogRecord]) -> None:
        """Add records at the end; they are digested by `settle`. After an OSError only `rollback` is allowed."""
        self.dirty = True
        parts: list[bytes] = []
        position = self._position
        for record in records:
            if not self.segments or position >= self._segment_bytes:
                self._flush(parts, position)
                self.settle()
                parts, position = [], HEADER_BYTES
                self._begin_segment(record)
            header, payload = encode(record, self.end)
            parts += (header, payload)
            self._unsettled.append((record, position))
            self.end += record.length
            position += len(header) + len(payload)
        self._flush(parts, position)

    @property
    def unsettled_bytes(self) -> int:
        """How much `settle` has to go through."""
        return self.end - self._settled

    def settle(self) -> None:
        """Count and digest what was appended. It touches no file, so it may run beside `sync_files`."""
        unsettled, self._unsettled = self._unsettled, []
        for record, position in unsettled:
            self._account(record, position)
        self._digest_waiting()

    def _account(self, record: LogRecord, position: int) -> None:
        """Count and digest a record. Small ones wait to be hashed together, unless a block ends in this one."""
        size = len(record.data)
        if (
            not record.gap_bytes
            and size < LARGE_BYTES
            and (self._settled + size) // BLOCK_BYTES == self._settled // BLOCK_BYTES
        ):
            if not self._waiting:
                self._waiting_position = position
            self._waiting.append(record.data)
            self._settled += size
            return
        self._digest_waiting()
        newlines = self._newlines
        if record.gap_bytes:
            self._digest.gap(record.gap_bytes)
        else:
            self._digest.data(record.data)
            self._newlines += record.data.count(b"\n")
        self._settled += record.length
        self._note_blocks(position, newlines)

    def _digest_waiting(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        if data:
            newlines = self._newlines
            self._digest.data(data)
            self._newlines += data.count(b"\n")
            # Only a gap before these records can have ended here: reading goes on at the first of them.
            self._note_blocks(self._waiting_position, newlines)

    def _note_blocks(self, position: int, newlines: int) -> None:
        if self._digest.fresh:
            index = self.segments[-1].index
            self._pending += (blocks.Checkpoint(entry, index, position, newlines) for entry in self._digest.fresh)
            self._digest.fresh.clear()

    def _flush(self, parts: list[bytes], position: int) -> None:
        if parts:
            write_parts(self._file(), parts, self._position)
            self._position = position

    def _file(self) -> int:
        if self._fd is None:
            self._fd = os.open(segment_path(self.base, self.segments[-1].index), os.O_WRONLY | os.O_CLOEXEC)
        return self._fd

    def _begin_segment(self, record: LogRecord) -> None:
        if self._fd is not None:
            self._full.append(self._fd)
            self._fd = None
        index = self.segments[-1].index + 1 if self.segments else 1
        segment = Segment(
            index=index, first_offset=self.end, newlines_before=self._newlines, first_at_us=to_us(record.at)
        )
        path = segment_path(self.base, index)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            sync_directory(path.parent.parent)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._fd, self._new_names = fd, True
        self.segments.append(segment)
        write_all(fd, encode_header(segment, self._lease_epoch), 0)
        self._position = HEADER_BYTES

    def sync_files(self) -> Path | None:
        """Make the bytes durable; returns the directory that must be synced too, if a name in it is new."""
        while self._full:
            os.fdatasync(self._full[0])
            self._let_cool(self._full.pop(0))
        if self._fd is not None:
            os.fdatasync(self._fd)
        return self.base.parent if self._new_names else None

    def _let_cool(self, fd: int) -> None:
        """A file is full and on disk. The one before it leaves memory, which the next bytes then take anew.

        A log is seldom read so far behind its end; its pages would push out those that are read, and memory that was
        in use a moment ago is cheaper to write to.
        """
        if self._warm is not None:
            with suppress(OSError):  # it is advice: what is durable stays so
                os.posix_fadvise(self._warm, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(self._warm)
        self._warm = fd

    def publish(self) -> None:
        """Everything is durable: let readers see it, and remember how far the digest has come."""
        self.settle()
        self._new_names = self.dirty = False
        self.committed = Committed(self.end, self._newlines, len(self.segments), self._position)
        if self._pending:
            pending, self._pending = self._pending, []
            # A full disk must not take back what is durable: without the entries a restart only reads more.
            with suppress(OSError):
                self._checkpoints = blocks.append(blocks_path(self.base), self._checkpoints, pending)

    def take_back(self) -> None:
        """Remove from disk what was not synced. This object is finished then; open the log anew."""
        self.close()
        kept = self.committed.segments
        for segment in self.segments[kept:]:
            segment_path(self.base, segment.index).unlink(missing_ok=True)
        if kept:
            os.truncate(segment_path(self.base, self.segments[kept - 1].index), self.committed.position)

    def seal(self) -> None:
        """No more bytes will come; says so in the last segment, for who opens the log later."""
        self.close()
        self.sealed = True
        if self.segments:
            write_seal(segment_path(self.base, self.segments[-1].index), self.committed.end)

    def digest(self) -> str:
        """The digest of everything that was appended."""
        self.settle()
        return self._digest.hex()

    def close(self) -> None:
        """Close files."""
        for fd in (*self._full, self._warm, self._fd):
            if fd is not None:
                os.close(fd)
        self._full, self._warm, self._fd = [], None, None
