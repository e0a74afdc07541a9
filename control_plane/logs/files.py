"""The log store of one server: files under one directory.

    <root>/<first 8 characters of the run's id>/<run id>.<epoch>.NNNNNN.seg    segments, while the log grows and after
                                                <run id>.<epoch>.blocks        its digest's finished pieces
                                                <run id>.<epoch>.arc           instead of both: sealed and compressed

Run ids begin with their time, so a directory holds the runs of about a minute and a commit of many logs syncs one.
"""

import errno
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TypeVar

from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.log import LogRecord
from control_plane.domain.logs import LogSegment
from control_plane.logs import archive, segment_reader
from control_plane.logs.recovery import blocks_path, segment_path
from control_plane.logs.segment_log import SegmentLog
from control_plane.logs.segments import sync_directory
from control_plane.logs.store import Cursor, LogDamaged, LogMissing, LogRead, LogSealed, Mark

SEGMENT_BYTES = 8 << 20
OPEN_LOGS = 512
SYNC_THREADS = 8
# For less than this the way to another thread takes longer than it saves.
SETTLED_BESIDE_BYTES = 256 << 10
# A sealed log smaller than this stays as it is: an archive would cost two syncs and save nothing.
WORTH_COMPRESSING_BYTES = 16 << 10
COMPRESS_READ_BYTES = 1 << 20
_SAFE_RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_SEGMENT_NAME = re.compile(r"(?P<run>[0-9A-Za-z_-]{1,64})\.(?P<epoch>[0-9]+)\.000001\.seg")

A = TypeVar("A")
R = TypeVar("R")
OpenLog = SegmentLog | archive.Archive


class FileLogStore:
    """See `LogStore`. `reserve_bytes`: with less free disk than this nothing is taken in any more."""

    def __init__(
        self,
        root: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        reserve_bytes: int = 0,
        open_logs: int = OPEN_LOGS,
    ) -> None:
        self._root = root
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._open_logs = open_logs
        self._lock = threading.RLock()
        # One compression or deletion at a time: what is deleted does not come back.
        self._maintenance = threading.Lock()
        self._logs: OrderedDict[AttemptKey, OpenLog] = OrderedDict()
        self._syncers = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="log-sync")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(self, key: AttemptKey, offset: int, records: Sequence[LogRecord]) -> None:
        with self._lock:
            log = self._open(key)
            if not isinstance(log, SegmentLog) or log.sealed:
                raise LogSealed(f"the log of {key.run_id} is sealed")
            if offset != log.end:
                raise ValueError(f"the log of {key.run_id} ends at {log.end}, not at {offset}")
            # From here on nobody closes it to make room before it is synced.
            log.dirty = True
        log.append(records)

    def sync(self, keys: Iterable[AttemptKey]) -> None:
        self._check_reserve()
        logs = [log for key in keys if isinstance(log := self._logs.get(key), SegmentLog) and log.dirty]
        # While the disk is at work, nothing else would use the time.
        settling = partial(_settle, logs) if sum(log.unsettled_bytes for log in logs) >= SETTLED_BESIDE_BYTES else None
        directories = set(self._all(SegmentLog.sync_files, logs, settling)) - {None}
        self._all(sync_directory, [directory for directory in directories if directory is not None])
        for log in logs:
            log.publish()

    def _all(
        self, body: Callable[[A], R], arguments: Sequence[A], meanwhile: Callable[[], None] | None = None
    ) -> list[R]:
        """Side by side, because the file system then shares one journal commit; all have ended when this returns."""
        if len(arguments) < 2 and meanwhile is None:
            return [body(argument) for argument in arguments]
        futures = [self._syncers.submit(body, argument) for argument in arguments]
        try:
            if meanwhile is not None:
                meanwhile()
        finally:  # whatever failed: nobody closes a file that is still being synced
            wait(futures)
        return [future.result() for future in futures]

    def rollback(self, keys: Iterable[AttemptKey]) -> None:
        with self._lock:
            for key in keys:
                log = self._logs.get(key)
                if isinstance(log, SegmentLog) and log.dirty:
                    del self._logs[key]
                    log.take_back()

    def digest(self, key: AttemptKey) -> str:
        log = self._open(key)
        return log.digest() if isinstance(log, SegmentLog) else log.verify()

    def verify(self, key: AttemptKey) -> str:
        log = self._open(key)
        return segment_reader.verify(log) if isinstance(log, SegmentLog) else log.verify()

    def seal(self, key: AttemptKey) -> None:
        log = self._open(key)
        if isinstance(log, SegmentLog) and not log.sealed:
            log.seal()

    def compress(self, key: AttemptKey) -> bool:
        with self._maintenance:
            log = self._open(key)
            if not isinstance(log, SegmentLog) or not log.sealed or not self._worth_it(log):
                return False
            path = _archive_path(log.base)
            archive.write(path, _whole(log))
            packed = archive.Archive(path)
            with self._lock:
                self._logs[key] = packed
                self._remove_segments(log.base)
            return True

    def delete(self, key: AttemptKey) -> None:
        base = self._base(key)
        with self._maintenance, self._lock:
            log = self._logs.pop(key, None)
            if isinstance(log, SegmentLog):
                log.close()
            _archive_path(base).unlink(missing_ok=True)
            self._remove_segments(base)
            try:
                base.parent.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                    raise

    def close(self) -> None:
        with self._lock:
            for log in self._logs.values():
                if isinstance(log, SegmentLog):
                    log.close()
            self._logs.clear()
        self._syncers.shutdown()

    # -- reading ------------------------------------------------------------------------------------------------------

    def end(self, key: AttemptKey) -> int:
        log = self._open(key)
        return log.committed.end if isinstance(log, SegmentLog) else log.end

    def is_blank(self, key: AttemptKey) -> bool:
        if key in self._logs:
            return False
        base = self._base(key)
        return not any(_is_there(path) for path in (segment_path(base, 1), _archive_path(base)))

    def read(self, key: AttemptKey, offset: int, limit_bytes: int, cursor: Cursor | None = None) -> LogRead:
        try:
            return self._read(key, offset, limit_bytes, cursor)
        except FileNotFoundError:
            # It was compressed, or deleted, between the look and the open.
            with self._lock:
                self._forget(key)
        try:
            return self._read(key, offset, limit_bytes, None)
        except FileNotFoundError:
            raise LogMissing(f"the log of {key.run_id} is gone") from None

    def _read(self, key: AttemptKey, offset: int, limit_bytes: int, cursor: Cursor | None) -> LogRead:
        log = self._open(key)
        if isinstance(log, SegmentLog):
            return segment_reader.read(log, offset, limit_bytes, cursor)
        return log.read(offset, limit_bytes, cursor)

    def marks(self, key: AttemptKey) -> tuple[Mark, ...]:
        log = self._open(key)
        return segment_reader.marks(log) if isinstance(log, SegmentLog) else log.marks()

    def segments(self, key: AttemptKey) -> tuple[LogSegment, ...]:
        log = self._open(key)
        return segment_reader.index_rows(log) if isinstance(log, SegmentLog) else log.index_rows()

    def uncompressed(self) -> list[AttemptKey]:
        """Every log that still lies in segments, sealed or not; for one look after a start."""
        found: list[AttemptKey] = []
        for directory in sorted(self._root.iterdir()):
            for entry in sorted(os.listdir(directory)) if directory.is_dir() else ():
                match = _SEGMENT_NAME.fullmatch(entry)
                if match and os.stat(directory / entry).st_size > WORTH_COMPRESSING_BYTES:
                    found.append(AttemptKey(run_id=RunId(match["run"]), lease_epoch=int(match["epoch"])))
        return found

    # -- inside -------------------------------------------------------------------------------------------------------

    def _base(self, key: AttemptKey) -> Path:
        if not _SAFE_RUN_ID.fullmatch(key.run_id):
            raise ValueError("a run id that is no file name")
        return self._root / key.run_id[:8] / f"{key.run_id}.{key.lease_epoch}"

    def _open(self, key: AttemptKey) -> OpenLog:
        with self._lock:
            log = self._logs.get(key)
            if log is None:
                log = self._logs[key] = self._load(key)
                self._shed(key)
            self._logs.move_to_end(key)
            return log

    def _load(self, key: AttemptKey) -> OpenLog:
        base = self._base(key)
        try:
            packed = archive.Archive(_archive_path(base))
        except FileNotFoundError:
            return SegmentLog(base, key.lease_epoch, self._segment_bytes)
        self._remove_segments(base)
        return packed

    def _shed(self, newest: AttemptKey) -> None:
        """Close the logs that were used least; one with unsynced bytes stays, and so does the newest."""
        spare = len(self._logs) - self._open_logs
        chosen: list[AttemptKey] = []
        for key, log in self._logs.items():
            if len(chosen) >= spare:
                break
            if not (isinstance(log, SegmentLog) and log.dirty) and key != newest:
                chosen.append(key)
        for key in chosen:
            self._forget(key)

    def _forget(self, key: AttemptKey) -> None:
        log = self._logs.get(key)
        if isinstance(log, SegmentLog):
            if log.dirty:
                return
            log.close()
        self._logs.pop(key, None)

    def _remove_segments(self, base: Path) -> None:
        """Newest first, so that what a crash leaves is still the beginning of a log."""
        blocks_path(base).unlink(missing_ok=True)
        count = 0
        while segment_path(base, count + 1).exists():
            count += 1
        for index in range(count, 0, -1):
            segment_path(base, index).unlink()

    def _check_reserve(self) -> None:
        if self._reserve_bytes:
            disk = os.statvfs(self._root)
            if disk.f_bavail * disk.f_frsize < self._reserve_bytes:
                raise OSError(errno.ENOSPC, "less disk is free than is kept in reserve", str(self._root))

    def _worth_it(self, log: SegmentLog) -> bool:
        return len(log.segments) > 1 or log.committed.position > WORTH_COMPRESSING_BYTES


def _settle(logs: Iterable[SegmentLog]) -> None:
    for log in logs:
        log.settle()


def _is_there(path: Path) -> bool:
    """Raises OSError when the disk does not say."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _archive_path(base: Path) -> Path:
    return base.with_name(f"{base.name}.arc")


def _whole(log: SegmentLog) -> Iterator[LogRead]:
    """Every read of a log, in order. Raises LogDamaged rather than archive a gap that hides changed bytes."""
    offset: int = 0
    cursor: Cursor | None = None
    while offset < log.committed.end:
        found = segment_reader.read(log, offset, COMPRESS_READ_BYTES, cursor)
        if found.damaged:
            raise LogDamaged(str(log.base))
        yield found
        offset, cursor = found.next_offset, found.cursor
