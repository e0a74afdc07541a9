"""Where an arriving piece of a log belongs, and when a log is whole: decisions without I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogExit

# Offsets that would not fit the stored form, and steps that no attempt has.
LARGEST_OFFSET = 1 << 62
LARGEST_STEP = 0xFFFF


class BadChunk(ValueError):
    """A chunk that no correct runner sends."""


@dataclass(frozen=True, slots=True)
class Append:
    """These records belong at the log's end; what was known already has been cut off."""

    records: tuple[LogRecord, ...]
    end: int


@dataclass(frozen=True, slots=True)
class Covered:
    """Everything in it is known: acknowledge it again."""

    end: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """Bytes before it are missing: ask the runner to go back."""


def place(expected: int, offset: int, records: Sequence[LogRecord]) -> Append | Covered | Ahead:
    """What to do with records that begin at `offset` when the log ends at `expected`. Raises BadChunk.

    EVENT records lie outside the byte offsets, so a repeated one could not be told; they are left out.
    """
    _check(offset, records)
    if offset > expected:
        return Ahead()
    kept: list[LogRecord] = []
    at = offset
    for record in records:
        end = at + record.length
        if record.length and end > expected:
            kept.append(_behind(record, max(0, expected - at)))
        at = end
    if not kept:
        return Covered(at)
    return Append(tuple(kept), at)


def _behind(record: LogRecord, skip: int) -> LogRecord:
    """The record without its first `skip` bytes of offset."""
    if skip == 0:
        return record
    if record.gap_bytes:
        return replace(record, gap_bytes=record.gap_bytes - skip)
    return replace(record, data=record.data[skip:])


def _check(offset: int, records: Sequence[LogRecord]) -> None:
    end = offset
    for record in records:
        if record.gap_bytes < 0 or (record.gap_bytes and record.data):
            raise BadChunk("a gap with a negative length or with data")
        if record.gap_bytes and record.kind is LogKind.EVENT:
            raise BadChunk("an event that is a gap")
        if not 0 <= record.step <= LARGEST_STEP:
            raise BadChunk("a step that no attempt has")
        end += record.length
    if offset < 0 or end > LARGEST_OFFSET:
        raise BadChunk("an offset out of range")


class LogState(StrEnum):
    """How a log compares with its exit record."""

    WAITING = "WAITING"
    COMPLETE = "COMPLETE"
    INCOMPLETE = "INCOMPLETE"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`note` says why a log is not complete."""

    state: LogState
    note: str = ""


def judge(ended: LogExit, end: int, digest: str) -> Judgement:
    """Compare a log that ends at `end` with the exit record.

    A log whose digest differs, or that is longer than it should be, can never become right: what was served must not
    change. It is sealed as it is, marked as not complete.
    """
    if end < ended.final_offset:
        return Judgement(LogState.WAITING)
    if end > ended.final_offset:
        note = f"{end} bytes were received, the exit record counts {ended.final_offset}"
        return Judgement(LogState.INCOMPLETE, note)
    if not ended.counted:
        return Judgement(LogState.INCOMPLETE, "what was written last on the host is lost, nobody counted it")
    if ended.digest and ended.digest != digest:
        return Judgement(LogState.INCOMPLETE, "the bytes differ from those that the runner's digest covers")
    return Judgement(LogState.COMPLETE)
