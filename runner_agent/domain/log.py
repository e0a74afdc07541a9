"""Log bytes on their way: records of one attempt's streams, and chunks of them. Offsets count masked bytes and gaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from runner_agent.domain.ids import AttemptKey


class LogKind(StrEnum):
    """Where log bytes come from. EVENT is reserved for typed events, which have no offsets."""

    STDOUT = "STDOUT"
    STDERR = "STDERR"
    PTY = "PTY"
    SYSTEM = "SYSTEM"
    EVENT = "EVENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """A piece of one stream, or (`gap_bytes` > 0, no data) a range that is not kept."""

    kind: LogKind
    step: int
    at_ns: int
    data: bytes | memoryview = field(default=b"", repr=False)
    gap_bytes: int = 0

    @property
    def span_bytes(self) -> int:
        """How much of the log's offsets it covers."""
        return len(self.data) + self.gap_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """Log bytes from `offset` on."""

    key: AttemptKey
    offset: int
    records: tuple[LogRecord, ...]

    @property
    def end_offset(self) -> int:
        """Offset behind the last record."""
        return self.offset + sum(record.span_bytes for record in self.records)
