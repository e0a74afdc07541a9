"""Pieces of an attempt's log: one masked append-only byte log per attempt."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class LogKind(StrEnum):
    STDOUT = "STDOUT"
    STDERR = "STDERR"
    PTY = "PTY"
    SYSTEM = "SYSTEM"
    EVENT = "EVENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogGap:
    """Bytes [from_offset, to_offset) that were dropped on the runner."""

    from_offset: int
    to_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """A piece of one stream; with gap_bytes > 0 its data is empty and that many bytes of offset are absent.

    EVENT records lie outside the byte offsets.
    """

    kind: LogKind
    at: datetime
    data: bytes = b""
    step: int = 0
    gap_bytes: int = 0

    @property
    def length(self) -> int:
        """How far the record moves the offset."""
        return 0 if self.kind is LogKind.EVENT else len(self.data) + self.gap_bytes
