"""A log store in memory that keeps the same promises as the files do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from control_plane.domain.ids import AttemptKey
from control_plane.domain.log import LogRecord
from control_plane.domain.logs import LogSegment
from control_plane.logs.digest import LogDigest
from control_plane.logs.store import Cursor, LogRead, LogSealed, Mark


@dataclass
class _Log:
    records: list[tuple[int, LogRecord]] = field(default_factory=list)
    end: int = 0
    committed: int = 0
    sealed: bool = False


class MemoryLogStore:
    """`broken` makes append and sync fail as a full disk does, until it is set to None again."""

    def __init__(self) -> None:
        self._logs: dict[AttemptKey, _Log] = {}
        self.broken: OSError | None = None
        self.syncs = 0

    def end(self, key: AttemptKey) -> int:
        return self._log(key).committed

    def is_blank(self, key: AttemptKey) -> bool:
        return key not in self._logs

    def append(self, key: AttemptKey, offset: int, records: Sequence[LogRecord]) -> None:
        log = self._log(key)
        if log.sealed:
            raise LogSealed(key.run_id)
        if offset != log.end:
            raise ValueError(f"the log ends at {log.end}, not at {offset}")
        for record in records:
            log.records.append((log.end, record))
            log.end += record.length

    def sync(self, keys: Iterable[AttemptKey]) -> None:
        if self.broken is not None:
            raise self.broken
        self.syncs += 1
        for key in keys:
            log = self._log(key)
            log.committed = log.end

    def rollback(self, keys: Iterable[AttemptKey]) -> None:
        for key in keys:
            log = self._log(key)
            log.records = [pair for pair in log.records if pair[0] < log.committed]
            log.end = log.committed

    def digest(self, key: AttemptKey) -> str:
        digest = LogDigest()
        for _, record in self._log(key).records:
            digest.gap(record.gap_bytes)
            if record.data:
                digest.data(record.data)
        return digest.hex()

    def verify(self, key: AttemptKey) -> str:
        return self.digest(key)

    def read(self, key: AttemptKey, offset: int, limit_bytes: int, cursor: Cursor | None = None) -> LogRead:
        log, found, at = self._log(key), [], offset
        for start, record in log.records:
            if start + record.length <= at or start >= log.committed:
                continue
            skip = at - start
            piece = (
                replace(record, data=record.data[skip:])
                if record.data
                else replace(record, gap_bytes=record.gap_bytes - skip)
            )
            if found and len(piece.data) > limit_bytes:
                break
            found.append(piece)
            at = start + record.length
            limit_bytes -= len(piece.data) + 1
            if limit_bytes <= 0:
                break
        return LogRead(records=tuple(found), next_offset=at, cursor=None)

    def marks(self, key: AttemptKey) -> tuple[Mark, ...]:
        log = self._log(key)
        return (Mark(offset=0, at=log.records[0][1].at, newlines_before=0),) if log.committed else ()

    def segments(self, key: AttemptKey) -> tuple[LogSegment, ...]:
        log = self._log(key)
        if not log.committed:
            return ()
        newlines = sum(record.data.count(b"\n") for _, record in log.records)
        first_at = log.records[0][1].at
        row = LogSegment(
            index=1,
            first_offset=0,
            end_offset=log.committed,
            first_at=first_at,
            newlines=newlines,
            stored_bytes=log.committed,
        )
        return (row,)

    def seal(self, key: AttemptKey) -> None:
        self._log(key).sealed = True

    def compress(self, key: AttemptKey) -> bool:
        return False

    def delete(self, key: AttemptKey) -> None:
        self._logs.pop(key, None)

    def close(self) -> None:
        self._logs.clear()

    def _log(self, key: AttemptKey) -> _Log:
        return self._logs.setdefault(key, _Log())
