"""A log that is followed over broken connections comes whole, once, and in order."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import log_pb2, run_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.cli.errors import CliError
from control_plane.cli.log_stream import Begin, Item, LogQuery, LogStream, Piece
from tests.unit.control_plane.cli.console import TOKEN
from tests.unit.control_plane.cli.logbook import STDERR, STDOUT, AttemptLog, Logbook, Record, serving

RECORDS = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=200)), min_size=0, max_size=8
)


def read(book: Logbook, query: LogQuery) -> tuple[list[Item], list[str], LogStream]:
    notices: list[str] = []
    with serving(book) as client:
        stream = LogStream(client, query, notices.append, pause=lambda duration_s: None)
        return list(stream), notices, stream


def text(items: list[Item], epoch: int, kind: int | None = None) -> bytes:
    return b"".join(
        item.record.data
        for item in items
        if isinstance(item, Piece) and item.lease_epoch == epoch and kind in (None, item.record.kind)
    )


def whole(records: list[Record], kind: int | None = None) -> bytes:
    return b"".join(data for found, data in records if kind in (None, found))


def epochs(items: list[Item]) -> list[int]:
    return [item.lease_epoch for item in items if isinstance(item, Begin)]


@settings(max_examples=30, deadline=None)
@given(
    records=RECORDS,
    drops=st.lists(st.integers(min_value=0, max_value=900), max_size=5),
    batch_bytes=st.integers(min_value=1, max_value=100),
    overlap=st.integers(min_value=0, max_value=300),
    status=st.sampled_from([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED]),
)
def test_no_byte_is_lost_or_repeated_wherever_the_connection_breaks(
    records: list[Record], drops: list[int], batch_bytes: int, overlap: int, status: grpc.StatusCode
) -> None:
    # The first stream always says something: a control plane that never answered is given up after some tries.
    book = Logbook(
        [AttemptLog(7, 1, records)], drops=[1, *drops], batch_bytes=batch_bytes, overlap=overlap, status=status
    )
    items, _, stream = read(book, LogQuery(run="@last", follow=True))
    assert text(items, 7, STDOUT) == whole(records, STDOUT)
    assert text(items, 7, STDERR) == whole(records, STDERR)
    assert text(items, 7) == whole(records)
    assert epochs(items) == [7]
    assert stream.end is not None
    assert stream.end.bytes == len(whole(records))
    pieces = [item for item in items if isinstance(item, Piece)]
    offsets = [piece.offset or 0 for piece in pieces]
    assert offsets == sorted(offsets)


@settings(max_examples=20, deadline=None)
@given(
    logs=st.lists(RECORDS, min_size=1, max_size=4),
    drops=st.lists(st.integers(min_value=0, max_value=400), max_size=4),
    one_at_a_time=st.booleans(),
    late=st.integers(min_value=0, max_value=3),
)
def test_attempts_come_in_order_also_when_the_reader_is_late(
    logs: list[list[Record]], drops: list[int], one_at_a_time: bool, late: int
) -> None:
    attempts = [AttemptLog(10 + number, number, records) for number, records in enumerate(logs, start=1)]
    # An attempt that printed nothing is told from one that never ran by its state; here it has none.
    attempts = [log for log in attempts if log.size()] or [AttemptLog(10, 1, [(STDOUT, b"x")])]
    for number, log in enumerate(attempts, start=1):
        log.number = number
    book = Logbook(attempts, drops=[1, *drops], one_at_a_time=one_at_a_time, starts_with=min(late, len(attempts) - 1))
    items, _, _ = read(book, LogQuery(run="@last", follow=True, every_attempt=True))
    assert epochs(items) == [log.lease_epoch for log in attempts]
    for log in attempts:
        assert text(items, log.lease_epoch) == whole(list(log.records))


def test_a_queued_run_whose_second_attempt_comes_first_is_read_from_its_first() -> None:
    """Between the look at the run and the stream an attempt may begin and fail."""

    class Late(Logbook):
        def run(self) -> run_pb2.Run:
            run = super().run()
            if not self.requests:
                del run.attempts[:]
            return run

    book = Late([AttemptLog(1, 1, [(STDOUT, b"one")]), AttemptLog(2, 2, [(STDOUT, b"two")])], starts_with=1)
    items, _, _ = read(book, LogQuery(run="@last", follow=True, every_attempt=True))
    assert epochs(items) == [1, 2]
    assert (text(items, 1), text(items, 2)) == (b"one", b"two")


def test_every_stream_carries_the_token_and_resumes_at_the_next_byte() -> None:
    book = Logbook([AttemptLog(3, 1, [(STDOUT, b"x" * 100)])], drops=[40, 30], batch_bytes=10)
    read(book, LogQuery(run="@last", follow=True))
    assert [request.from_offset for request in book.requests] == [0, 40, 70]
    assert [request.lease_epoch for request in book.requests] == [0, 3, 3]
    assert {metadata["authorization"] for metadata in book.metadata} == {f"Bearer {TOKEN}"}


def test_one_notice_for_one_outage() -> None:
    book = Logbook([AttemptLog(3, 1, [(STDOUT, b"x" * 100)])], drops=[40, 0, 0, 0, 0, 0, 0], batch_bytes=10)
    items, notices, _ = read(book, LogQuery(run="@last", follow=True))
    assert text(items, 3) == b"x" * 100
    assert len(notices) == 1


def test_a_tail_resumes_behind_what_was_shown() -> None:
    book = Logbook([AttemptLog(3, 1, [(STDOUT, b"0123456789" * 10)])], drops=[0, 20], batch_bytes=10)
    read(book, LogQuery(run="@last", follow=True, tail_lines=5))
    assert [request.WhichOneof("start") for request in book.requests] == ["tail_lines", "tail_lines", "from_offset"]
    assert book.requests[2].from_offset == 20


def test_a_filter_is_kept_over_a_break_and_holes_in_it_are_none() -> None:
    records = [(STDOUT, b"a" * 10), (STDERR, b"b" * 10), (STDOUT, b"c" * 10), (STDERR, b"d" * 5), (STDOUT, b"e")]
    book = Logbook([AttemptLog(3, 1, records)], drops=[10], batch_bytes=10)
    items, _, _ = read(book, LogQuery(run="@last", follow=True, kinds=(STDOUT,)))
    assert text(items, 3) == b"a" * 10 + b"c" * 10 + b"e"
    assert [list(request.kinds) for request in book.requests] == [[STDOUT], [STDOUT]]


def test_a_chosen_attempt_ends_with_itself() -> None:
    book = Logbook([AttemptLog(1, 1, [(STDOUT, b"one")]), AttemptLog(2, 2, [(STDOUT, b"two")])])
    items, _, _ = read(book, LogQuery(run="@last", follow=True, lease_epoch=1))
    assert epochs(items) == [1]
    assert text(items, 1) == b"one"


def test_without_following_the_newest_attempt_is_read() -> None:
    book = Logbook([AttemptLog(1, 1, [(STDOUT, b"one")]), AttemptLog(2, 2, [(STDOUT, b"two")])], drops=[2])
    items, _, _ = read(book, LogQuery(run="@last"))
    assert epochs(items) == [2]
    assert text(items, 2) == b"two"


def test_a_control_plane_that_never_answered_is_given_up() -> None:
    book = Logbook([AttemptLog(1, 1, [])], drops=[0] * 20)
    with pytest.raises(CliError) as caught:
        read(book, LogQuery(run="@last", follow=True))
    assert caught.value.exit_code == 5
    assert 1 < len(book.requests) < 10


def test_what_no_second_try_can_heal_is_told_at_once() -> None:
    book = Logbook([AttemptLog(1, 1, [])], drops=[0], status=grpc.StatusCode.NOT_FOUND)
    with pytest.raises(CliError) as caught:
        read(book, LogQuery(run="@last", follow=True))
    assert caught.value.exit_code == 3
    assert len(book.requests) == 1


def test_a_hole_that_no_gap_record_covers_is_an_error() -> None:
    class Holed(Logbook):
        def batches(self, log, offset, request):  # type: ignore[no-untyped-def]
            for number, batch in enumerate(super().batches(log, offset, request)):
                if number != 1:
                    yield batch

    book = Holed([AttemptLog(1, 1, [(STDOUT, b"x" * 30)])], batch_bytes=10)
    with pytest.raises(CliError) as caught:
        read(book, LogQuery(run="@last"))
    assert caught.value.exit_code == 10


def test_gap_records_keep_their_offsets_and_are_cut_too() -> None:
    class Gapped(Logbook):
        def batches(self, log, offset, request):  # type: ignore[no-untyped-def]
            batch = log_pb2.LogBatch(lease_epoch=log.lease_epoch, offset=0, next_offset=1010)
            batch.records.add(kind=STDOUT, data=b"0123456789")
            batch.records.add(gap_bytes=990)
            batch.records.add(kind=STDOUT, data=b"0123456789")
            yield batch

    book = Gapped([AttemptLog(1, 1, [(STDOUT, b"x")])])
    items, _, stream = read(book, LogQuery(run="@last"))
    assert [item.record.gap_bytes for item in items if isinstance(item, Piece)] == [0, 990, 0]
    assert stream.next_offset == 1010
