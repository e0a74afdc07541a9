"""Where a reader of a log begins and what it leaves out: last lines, times, offsets, kinds."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.domain.errors import ErrorCode, InvalidArgument, OutOfRange
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogBatch, LogItem, LogQuery
from control_plane.logs.files import FileLogStore
from control_plane.logs.lines import offset_of_last_lines
from tests.unit.control_plane.logs.tailed import AT, RUN, House, collect, key, line, text, until

texts = st.lists(
    st.tuples(st.sampled_from([b"a", b"\n", b"x\n", b"\n\n", b"long " * 60, b"a\nb"]), st.booleans()), max_size=40
)


async def test_an_offset_behind_the_end_is_refused(house: House) -> None:
    house.begin()
    house.write(line(b"12345"))
    await house.end()
    assert text(await house.read(from_offset=5)) == b""
    with pytest.raises(OutOfRange) as caught:
        await house.read(from_offset=6)
    assert caught.value.code is ErrorCode.OFFSET_BEYOND_END


async def test_negative_numbers_are_refused_together(house: House) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await house.read(from_offset=-1, tail_lines=-1, lease_epoch=-1)
    assert [violation.field for violation in caught.value.violations] == ["from_offset", "tail_lines", "lease_epoch"]


async def test_a_filter_leaves_out_bytes_but_not_offsets(house: House) -> None:
    house.begin()
    for number in range(100):
        house.write(
            line(b"out %d\n" % number),
            line(b"err %d\n" % number, kind=LogKind.STDERR),
            line(b"step two\n", step=1),
        )
    await house.end()
    whole = await house.read()
    items = await house.read(kinds=frozenset({LogKind.STDERR}))
    assert text(items) == b"".join(b"err %d\n" % number for number in range(100))
    batches = [item for item in items if isinstance(item, LogBatch)]
    assert batches[-1].next_offset == len(text(whole))
    middle = batches[len(batches) // 2]
    again = await house.read(kinds=frozenset({LogKind.STDERR}), from_offset=middle.next_offset)
    before = b"".join(record.data for batch in batches[: len(batches) // 2 + 1] for record in batch.records)
    assert before + text(again) == text(items)
    assert text(await house.read(step=1)) == b"step two\n" * 100


async def test_a_gap_is_told_whatever_is_filtered(house: House) -> None:
    house.begin()
    house.write(line(b"a"), LogRecord(kind=LogKind.STDOUT, at=AT, gap_bytes=1000), line(b"b"))
    await house.end()
    items = await house.read(kinds=frozenset({LogKind.SYSTEM}))
    assert [record.gap_bytes for item in items if isinstance(item, LogBatch) for record in item.records] == [1000]


@pytest.mark.parametrize(
    ("lines", "expected"), [(0, b""), (1, b"three\n"), (2, b"two\nthree\n"), (9, b"one\ntwo\nthree\n")]
)
async def test_the_last_lines(house: House, lines: int, expected: bytes) -> None:
    house.begin()
    house.write(line(b"one\ntw"), line(b"o\nth"), line(b"ree\n"))
    await house.end()
    assert text(await house.read(tail_lines=lines)) == expected


async def test_the_last_lines_follow_on(house: House) -> None:
    got: list[LogItem] = []
    arrived = asyncio.Event()
    house.begin()
    house.write(line(b"1\n2\n3\nunfinished"))
    async with asyncio.TaskGroup() as group:
        query = LogQuery(run_id=RUN, follow=True, tail_lines=2)
        group.create_task(collect(house.tail.follow(query), got, arrived), name="reader")
        await until(arrived, lambda: text(got))
        house.write(line(b" and done\n"))
        await house.end()
    assert text(got) == b"3\nunfinished and done\n"


@settings(max_examples=80, deadline=None)
@given(pieces=texts, lines=st.integers(1, 12), only_errors=st.booleans())
def test_the_last_lines_are_those_of_any_log(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, bool]], lines: int, only_errors: bool
) -> None:
    store = FileLogStore(tmp_path_factory.mktemp("logs"), segment_bytes=200)
    kinds = {True: LogKind.STDERR, False: LogKind.STDOUT}
    records = [line(data, kind=kinds[error]) for data, error in pieces]
    store.append(key(1), 0, records)
    store.sync([key(1)])
    query = LogQuery(run_id=RUN, kinds=frozenset({LogKind.STDERR}) if only_errors else frozenset())
    start = offset_of_last_lines(store, key(1), lines, query.wants)
    store.close()
    offset, seen, whole = 0, b"", b""
    for record in records:
        if query.wants(record):
            whole += record.data
            seen += record.data[max(0, start - offset) :]
        offset += len(record.data)
    assert seen == b"".join(whole.splitlines(keepends=True)[-lines:])


async def test_since_begins_with_the_first_record_of_that_time(house: House) -> None:
    house.begin()
    house.write(*(line(b"%03d\n" % number, second=number // 2) for number in range(300)))
    await house.end()
    for second in (0, 1, 77, 149):
        items = await house.read(since=AT + timedelta(seconds=second))
        assert text(items) == b"".join(b"%03d\n" % number for number in range(second * 2, 300))
    assert text(await house.read(since=AT + timedelta(seconds=150))) == b""
    assert text(await house.read(since=AT - timedelta(days=1))).startswith(b"000")
