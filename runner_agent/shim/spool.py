"""The writer of a spool: appends masked bytes, never blocks the run, and survives a full disk with a gap.

The head is kept up to the log limit less the tail; after it, or when the quota is used up by bytes that nobody has
fetched, a ring of small files keeps the last part. When fetched files have been deleted, a quota ring turns into an
ordinary part of the log and the head goes on behind it.
"""

from __future__ import annotations

import os
from collections import deque

from runner_agent.shim import spool_format as fmt
from runner_agent.shim.digest import LogDigest
from runner_agent.shim.files import disk_is_full
from runner_agent.shim.records import dataclass

FILE_BYTES = 4 << 20
TAIL_BYTES = 4 << 20
SYNC_BYTES = 32 << 20
SYNC_NS = 1_000_000_000
RETRY_NS = 1_000_000_000
MAX_GAPS = 256
MAX_UNSYNCED_FILES = 8


@dataclass(slots=True)
class _OpenFile:
    number: int
    descriptor: int
    size: int = 0
    ring: bool = False


class Spool:
    """Offsets begin at 0 and count every byte given, kept or not."""

    def __init__(self, directory: str, *, log_limit_bytes: int, quota_bytes: int) -> None:
        self._directory = directory
        tail = min(TAIL_BYTES, log_limit_bytes // 4, quota_bytes // 4)
        self._ring_file_bytes = max(1, tail // 4)
        self._head_limit = max(0, log_limit_bytes - tail)
        self._quota = max(0, quota_bytes - tail - self._ring_file_bytes)
        self._file_bytes = max(1, min(FILE_BYTES, self._quota // 8))
        self.offset = 0
        self._digest = LogDigest()
        self._file: _OpenFile | None = None
        # Files that are written to no more and may not be on disk yet, oldest first.
        self._unsynced: list[int] = []
        self._next_number = 0
        self._heads: deque[tuple[int, int]] = deque()
        self._ring: deque[int] = deque()
        self._in_ring = False
        self._blocked_until_ns = 0
        self._failures = 0
        self._dirty = 0
        self._dirty_since_ns = 0

    @property
    def is_dirty(self) -> bool:
        """Whether something was written since the last sync."""
        return self._dirty > 0

    def append(self, kind: int, step: int, data: bytes | memoryview, *, wall_ns: int, now_ns: int) -> None:
        """Add bytes of one stream. Never raises for a full or failing disk: then they become a gap."""
        view = memoryview(data)
        while view:
            piece = view[: self._room()]
            if now_ns < self._blocked_until_ns or not self._write(kind, step, piece, wall_ns, now_ns):
                piece = view
                self.offset += len(piece)
            view = view[len(piece) :]

    def sync_if_due(self, now_ns: int) -> None:
        """Sync when 32 MiB or a second have passed since the first unsynced byte."""
        if self._dirty and (self._dirty >= SYNC_BYTES or now_ns - self._dirty_since_ns >= SYNC_NS):
            self.sync()

    def sync(self) -> None:
        """Make everything appended so far survive a power cut, as far as the disk lets us."""
        self._sync_closed()
        if self._file is not None and self._dirty:
            self._sync(self._file.descriptor)
        self._dirty = 0

    def finish(self) -> tuple[int, str, tuple[tuple[int, int], ...]]:
        """Sync and close: (final offset, digest, gaps). Nothing may be appended afterwards.

        The names of the files survive a power cut with that of the exit record, which comes into the same directory
        behind them: its sync is theirs too, nobody is told of an end before it, and no disk keeps a later name
        without the earlier ones.
        """
        self._close_file()
        self.sync()
        self._seal_ring()
        self._digest.gap(self.offset)
        return self.offset, self._digest.hex(), tuple(self._digest.gaps)

    # ---- one write

    def _write(self, kind: int, step: int, piece: memoryview, wall_ns: int, now_ns: int) -> bool:
        """Append `piece` in records of at most 64 KiB. On failure the file is as before, and False is returned."""
        parts: list[bytes | memoryview] = []
        for start in range(0, len(piece), fmt.MAX_PAYLOAD_BYTES):
            payload = piece[start : start + fmt.MAX_PAYLOAD_BYTES]
            parts += (fmt.record_header(self.offset + start, kind, step, wall_ns, payload), payload)
        try:
            file = self._open_file()
            wanted = sum(len(part) for part in parts)
            if os.writev(file.descriptor, parts) != wanted:
                raise OSError(28, "short write")
        except OSError as error:
            self._undo(error, now_ns)
            return False
        if not self._dirty:
            self._dirty_since_ns = now_ns
        self._dirty += wanted
        file.size += wanted
        if not file.ring:
            self._digest.gap(self.offset)
            self._digest.data(piece)
        self.offset += len(piece)
        return True

    def _undo(self, error: OSError, now_ns: int) -> None:
        """Cut off what a failed write has left, and try again in a second; after too many gaps, never."""
        self._failures += 1
        many = len(self._digest.gaps) >= MAX_GAPS or not disk_is_full(error)
        self._blocked_until_ns = now_ns + (60 * RETRY_NS if many else RETRY_NS)
        if self._file is None:
            return
        try:
            os.ftruncate(self._file.descriptor, self._file.size)
        except OSError:
            self._close_file()

    # ---- files

    def _room(self) -> int:
        """How many bytes may go into the current file now, at least 1; turns to the next file or the ring if due."""
        if not self._in_ring and self._head_is_full():
            self._close_file()
            self._in_ring = True
        file = self._file
        if file is not None and file.size >= self._limit() + fmt.FILE_HEADER_BYTES:
            self._close_file()
            self._turn()
            file = None
        room = self._limit() - (0 if file is None else file.size - fmt.FILE_HEADER_BYTES)
        if not self._in_ring:
            room = min(room, self._head_limit - self.offset)
        return max(1, min(room, 512 << 10))

    def _limit(self) -> int:
        return self._ring_file_bytes if self._in_ring else self._file_bytes

    def _head_is_full(self) -> bool:
        if self.offset >= self._head_limit:
            return True
        used = sum(size for _, size in self._heads) + (self._file.size if self._file is not None else 0)
        if used < self._quota:
            return False
        return self._count_heads() + (self._file.size if self._file is not None else 0) >= self._quota

    def _count_heads(self) -> int:
        """Bytes of head files that nobody has fetched and deleted yet."""
        kept = [entry for entry in self._heads if os.path.exists(self._path(entry[0]))]
        self._heads = deque(kept)
        return sum(size for _, size in kept)

    def _turn(self) -> None:
        """A file was closed: let the ring's oldest go, or end the ring when the head has room again."""
        if not self._in_ring:
            return
        if self.offset < self._head_limit and self._count_heads() < self._quota // 2:
            self._seal_ring()
            self._in_ring = False
        while len(self._ring) > 4:
            self._remove(self._ring.popleft())

    def _seal_ring(self) -> None:
        """What the ring holds now is final: digest it, with the gap before it."""
        while self._ring:
            number = self._ring.popleft()
            try:
                for record in fmt.read_records(self._directory, number):
                    self._digest.gap(record.offset)
                    self._digest.data(record.data)
                self._heads.append((number, os.path.getsize(self._path(number))))
            except OSError:
                self._failures += 1

    def _open_file(self) -> _OpenFile:
        if self._file is not None:
            return self._file
        number = self._next_number
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._path(number), flags, 0o600)
        header = fmt.file_header(self.offset, ring=self._in_ring)
        try:
            if os.write(descriptor, header) != len(header):
                raise OSError(28, "short write")
        except OSError:
            os.close(descriptor)
            self._remove(number)
            raise
        self._next_number += 1
        self._file = _OpenFile(number=number, descriptor=descriptor, size=len(header), ring=self._in_ring)
        return self._file

    def _close_file(self) -> None:
        file = self._file
        if file is None:
            return
        self._file = None
        self._unsynced.append(file.descriptor)
        if file.ring:
            self._ring.append(file.number)
        else:
            self._heads.append((file.number, file.size))
        if len(self._unsynced) >= MAX_UNSYNCED_FILES:
            self._sync_closed()

    def _sync_closed(self) -> None:
        """Sync the files that are complete, and let them go.

        One that has no name any more is not worth its way to the disk: the agent removes it only once the server has
        all of it durably, and we only when it has left the ring.
        """
        for descriptor in self._unsynced:
            self._sync(descriptor)
            os.close(descriptor)
        self._unsynced = []

    def _sync(self, descriptor: int) -> None:
        try:
            if os.fstat(descriptor).st_nlink:
                os.fdatasync(descriptor)
        except OSError:
            self._failures += 1  # what was lost shows as a gap when the file is read

    def _remove(self, number: int) -> None:
        try:
            os.unlink(self._path(number))
        except FileNotFoundError:
            return

    def _path(self, number: int) -> str:
        return f"{self._directory}/{fmt.file_name(number)}"
