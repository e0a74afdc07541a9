"""The server's rule for arriving log bytes: append, cut, acknowledge again, or ask the runner to go back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogExit
from control_plane.logs.offsets import Ahead, Append, BadChunk, Covered, LogState, judge, place

AT = datetime(2026, 1, 1, tzinfo=UTC)


def data(text: bytes) -> LogRecord:
    return LogRecord(kind=LogKind.STDOUT, at=AT, data=text)


def gap(size: int) -> LogRecord:
    return LogRecord(kind=LogKind.SYSTEM, at=AT, gap_bytes=size)


def test_a_chunk_at_the_end_is_appended() -> None:
    assert place(5, 5, [data(b"abc")]) == Append((data(b"abc"),), 8)


def test_a_known_chunk_is_covered() -> None:
    assert place(8, 5, [data(b"abc")]) == Covered(8)
    assert place(9, 5, [data(b"abc")]) == Covered(8)
    assert place(5, 5, []) == Covered(5)


def test_an_overlap_is_cut() -> None:
    assert place(6, 5, [data(b"abc"), gap(10)]) == Append((data(b"bc"), gap(10)), 18)
    assert place(10, 5, [data(b"abc"), gap(10)]) == Append((gap(8),), 18)


def test_a_chunk_behind_missing_bytes_asks_to_go_back() -> None:
    assert place(4, 5, [data(b"abc")]) == Ahead()


def test_events_lie_outside_the_offsets() -> None:
    event = replace(data(b"{}"), kind=LogKind.EVENT)
    assert place(5, 5, [event, data(b"x"), event]) == Append((data(b"x"),), 6)
    assert place(5, 5, [event]) == Covered(5)


@pytest.mark.parametrize(
    ("offset", "record"),
    [
        (-1, data(b"x")),
        (0, gap(-5)),
        (0, replace(gap(5), data=b"x")),
        (0, replace(gap(5), kind=LogKind.EVENT)),
        (0, replace(data(b"x"), step=-1)),
        (0, replace(data(b"x"), step=70_000)),
        (1 << 62, data(b"x")),
        (0, gap(1 << 63)),
    ],
)
def test_what_no_runner_sends_is_refused(offset: int, record: LogRecord) -> None:
    with pytest.raises(BadChunk):
        place(0, offset, [record])


records = st.lists(st.one_of(st.binary(min_size=1, max_size=9).map(data), st.integers(1, 9).map(gap)), max_size=8)


def expand(some: tuple[LogRecord, ...] | list[LogRecord]) -> list[int | None]:
    """One element per byte of offset; None where the byte is absent."""
    return [byte for record in some for byte in (record.data or [None] * record.gap_bytes)]


@given(log=records, cuts=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), max_size=30))
def test_any_order_of_repeats_and_jumps_gives_the_log_once(log: list[LogRecord], cuts: list[tuple[int, int]]) -> None:
    """Chunks that start and end anywhere, in any order: what is stored is always a prefix, at last the whole."""
    whole = expand(log)
    stored: list[int | None] = []
    for start, size in [*cuts, (0, len(whole))]:
        start = min(start, len(whole))
        wanted = whole[start : start + size]
        pieces = [data(bytes([byte])) if byte is not None else gap(1) for byte in wanted]
        match place(len(stored), start, pieces):
            case Append(kept, end):
                stored += expand(kept)
                assert end == len(stored)
            case Covered(end):
                assert end <= len(stored)
            case Ahead():
                assert start > len(stored)
        assert stored == whole[: len(stored)]
    assert stored == whole


def test_a_log_is_judged_by_its_exit_record() -> None:
    ended = LogExit(final_offset=10, digest="d")
    assert judge(ended, 9, "d").state is LogState.WAITING
    assert judge(ended, 10, "d").state is LogState.COMPLETE
    assert judge(ended, 10, "e").state is LogState.INCOMPLETE
    assert judge(ended, 11, "d").state is LogState.INCOMPLETE
    assert judge(replace(ended, counted=False), 10, "d").state is LogState.INCOMPLETE
    assert judge(replace(ended, digest=""), 10, "d").state is LogState.COMPLETE
    assert all(judge(ended, end, "e").note for end in (10, 11))
