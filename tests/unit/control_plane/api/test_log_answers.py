"""The bytes of an answer are those of its message, whoever gets them."""

from __future__ import annotations

from datetime import UTC, datetime

from banksman.v1 import log_pb2
from hypothesis import given
from hypothesis import strategies as st

from control_plane.api.log_answers import REMEMBERED, Answers, message_of
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogBatch, LogStart

_RECORDS = st.builds(
    LogRecord,
    kind=st.sampled_from(LogKind),
    at=st.integers(0, 7_000_000_000).map(lambda second: datetime.fromtimestamp(second, UTC)),
    data=st.one_of(st.binary(max_size=300), st.sampled_from([127, 128, 16_383, 16_384, 70_000]).map(bytes)),
    step=st.integers(0, 300),
    gap_bytes=st.integers(0, 1 << 40),
)
_BATCHES = st.builds(
    LogBatch,
    lease_epoch=st.integers(0, 1 << 62),
    offset=st.integers(0, 1 << 62),
    next_offset=st.integers(0, 1 << 62),
    records=st.lists(_RECORDS, max_size=5).map(tuple),
)


@given(batches=st.lists(_BATCHES, min_size=1, max_size=4))
def test_bytes_mean_the_message(batches: list[LogBatch]) -> None:
    answers = Answers()
    for batch in (*batches, *batches):
        assert log_pb2.ReadLogsResponse.FromString(answers.serialized(batch)) == message_of(batch)


def test_other_items_are_their_messages() -> None:
    start = LogStart(lease_epoch=1, attempt_number=1)
    assert Answers().serialized(start) == message_of(start).SerializeToString()


def test_a_batch_that_many_get_is_serialized_once() -> None:
    answers, records = Answers(), (LogRecord(kind=LogKind.STDOUT, at=datetime.now(UTC), data=b"x"),)
    made = [LogBatch(lease_epoch=1, offset=0, next_offset=1, records=records) for _ in range(3)]
    first = answers.serialized(made[0])
    assert all(answers.serialized(batch) is first for batch in made)
    elsewhere = LogBatch(lease_epoch=2, offset=0, next_offset=1, records=records)
    assert answers.serialized(elsewhere) != first
    for _ in range(REMEMBERED):
        fresh = (LogRecord(kind=LogKind.STDOUT, at=datetime.now(UTC), data=b"y"),)
        answers.serialized(LogBatch(lease_epoch=1, offset=1, next_offset=2, records=fresh))
    assert answers.serialized(made[0]) is not first
