"""What a place that keeps logs must do; its methods block, so they are called in threads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from control_plane.domain.ids import AttemptKey
from control_plane.domain.log import LogRecord
from control_plane.domain.logs import LogSegment


class LogSealed(Exception):
    """The log gets no more bytes."""


class LogMissing(Exception):
    """Bytes that were there have gone: the log was deleted while it was read."""


class LogDamaged(Exception):
    """Stored bytes have changed: the log is kept as it is, for a person."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where in a store a read ended, so that the next one need not search. Worthless to any other store."""

    generation: int
    part: int
    position: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRead:
    """Contiguous records that begin at the asked offset. `damaged`: the last of them covers bytes that had changed.

    `next_offset` lies behind the last record; no records mean that nothing is committed there.
    """

    records: tuple[LogRecord, ...]
    next_offset: int
    cursor: Cursor | None
    damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place where reading can begin: its offset, the time of its first record, and the newlines before it."""

    offset: int
    at: datetime
    newlines_before: int


class LogStore(Protocol):
    """One append-only log per attempt.

    `append`, `sync`, `rollback`, `digest` and `seal` are for one thread at a time; everything else for any thread.
    Only what was synced is ever read, and it never changes. OSError means that the disk failed: nothing was promised.
    """

    def end(self, key: AttemptKey) -> int:
        """The offset behind the last committed byte; 0 for a log that nobody has begun."""
        ...

    def is_blank(self, key: AttemptKey) -> bool:
        """Whether nothing was ever stored of a log, by a look that may be taken on the event loop."""
        ...

    def append(self, key: AttemptKey, offset: int, records: Sequence[LogRecord]) -> None:
        """Add records at the log's very end, not durable yet. Raises LogSealed, ValueError at another offset."""
        ...

    def sync(self, keys: Iterable[AttemptKey]) -> None:
        """Make everything that was appended to these logs durable, then visible."""
        ...

    def rollback(self, keys: Iterable[AttemptKey]) -> None:
        """Forget what was appended since the last sync."""
        ...

    def digest(self, key: AttemptKey) -> str:
        """The digest of the committed log, hex."""
        ...

    def verify(self, key: AttemptKey) -> str:
        """The digest, computed anew from what is stored; damage changes it."""
        ...

    def read(self, key: AttemptKey, offset: int, limit_bytes: int, cursor: Cursor | None = None) -> LogRead:
        """Committed records from `offset` on: at least one if there is any, and about limit_bytes at most.

        Bytes that do not match their checksum come as a gap, never as they are. Raises LogMissing.
        """
        ...

    def marks(self, key: AttemptKey) -> tuple[Mark, ...]:
        """Places to begin reading, in order; none for an empty log."""
        ...

    def segments(self, key: AttemptKey) -> tuple[LogSegment, ...]:
        """What to remember about each segment."""
        ...

    def seal(self, key: AttemptKey) -> None:
        """No more bytes will come."""
        ...

    def compress(self, key: AttemptKey) -> bool:
        """Make a sealed log smaller if that is worth it; it reads the same. Says whether anything was done.

        Raises LogDamaged.
        """
        ...

    def delete(self, key: AttemptKey) -> None:
        """Remove the log; a log that is not there is fine."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...
