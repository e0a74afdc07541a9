"""Reading logs as they grow: every byte once, in order, across retries, to a truthful end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.domain.errors import ErrorCode, NotFound, OutOfRange
from control_plane.domain.ids import RunId
from control_plane.domain.logs import LogAttempt, LogBatch, LogEnd, LogItem, LogQuery, LogStart
from control_plane.domain.run import RunState
from control_plane.logs.streams import log_topic
from control_plane.logs.tail import TailSettings
from tests.unit.control_plane.logs.tailed import RUN, House, collect, end_of, key, line, text, until


async def test_a_finished_log_is_replayed_whole(house: House) -> None:
    house.begin()
    for number in range(200):
        house.write(line(b"line %d\n" % number))
    await house.end()
    for follow in (False, True):
        items = await house.read(follow=follow)
        assert items[0] == LogStart(lease_epoch=1, attempt_number=1)
        assert text(items) == b"".join(b"line %d\n" % number for number in range(200))
        assert all(len(item.records) < 200 for item in items if isinstance(item, LogBatch))
        end = end_of(items)
        assert (end.state, end.exit_code, end.complete) == (RunState.SUCCEEDED, 0, True)
        assert (end.bytes, end.digest) == (len(text(items)), house.store.digest(key(1)))


async def test_a_living_log_without_follow_ends_at_what_is_stored(house: House) -> None:
    house.begin()
    house.write(line(b"so far"))
    items = await house.read()
    assert text(items) == b"so far"
    assert end_of(items) == LogEnd(
        lease_epoch=1, state=RunState.RUNNING, reason=None, exit_code=None, bytes=6, digest="", complete=True
    )


async def test_a_follower_gets_each_byte_as_it_comes_and_the_end(patient: House) -> None:
    got: list[LogItem] = []
    arrived = asyncio.Event()
    patient.ledger.put(RUN, RunState.QUEUED)
    async with asyncio.TaskGroup() as group:
        query = LogQuery(run_id=RUN, follow=True)
        group.create_task(collect(patient.tail.follow(query), got, arrived), name="reader")
        await asyncio.sleep(0)
        patient.begin()
        await until(arrived, lambda: got)
        for number in range(5):
            patient.write(line(b"%d\n" % number))
            expected = number + 1
            await until(arrived, lambda expected=expected: text(got).count(b"\n") == expected)
        patient.ledger.finish(key(1), state=RunState.SUCCEEDED)
        patient.write(line(b"the last bytes come behind the state\n"))
        await patient.seal()
    assert text(got) == b"0\n1\n2\n3\n4\nthe last bytes come behind the state\n"
    assert end_of(got).complete


async def test_bytes_alone_cost_no_look_into_the_database(patient: House) -> None:
    got: list[LogItem] = []
    arrived = asyncio.Event()
    patient.begin()
    async with asyncio.TaskGroup() as group:
        query = LogQuery(run_id=RUN, follow=True)
        group.create_task(collect(patient.tail.follow(query), got, arrived), name="reader")
        await until(arrived, lambda: got)
        looks = patient.ledger.looks
        for number in range(20):
            patient.write(line(b"x"))
            expected = number + 1
            await until(arrived, lambda expected=expected: len(text(got)) == expected)
        assert patient.ledger.looks == looks
        await patient.end()


async def test_a_follower_goes_on_to_the_next_attempt(house: House) -> None:
    got: list[LogItem] = []
    arrived = asyncio.Event()
    house.begin(1)
    house.write(line(b"first try\n"))
    async with asyncio.TaskGroup() as group:
        query = LogQuery(run_id=RUN, follow=True)
        group.create_task(collect(house.tail.follow(query), got, arrived), name="reader")
        await until(arrived, lambda: text(got))
        await house.end(1, state=RunState.QUEUED)
        house.begin(4)
        house.write(line(b"second try\n"), epoch=4)
        await house.end(4)
    starts = [item for item in got if isinstance(item, LogStart)]
    assert starts == [LogStart(lease_epoch=1, attempt_number=1), LogStart(lease_epoch=4, attempt_number=2)]
    assert text(got) == b"first try\nsecond try\n"
    assert end_of(got).lease_epoch == 4


async def test_the_newest_attempt_is_read_unless_another_is_named(house: House) -> None:
    for epoch in (1, 2):
        house.begin(epoch)
        house.write(line(b"attempt %d" % epoch), epoch=epoch)
        await house.end(epoch)
    assert text(await house.read()) == b"attempt 2"
    assert text(await house.read(lease_epoch=1)) == b"attempt 1"
    assert text(await house.read(lease_epoch=1, follow=True)) == b"attempt 1attempt 2"
    with pytest.raises(NotFound) as caught:
        await house.read(lease_epoch=7)
    assert caught.value.code is ErrorCode.ATTEMPT_NOT_FOUND


async def test_a_run_that_never_ran_ends_at_once(house: House) -> None:
    house.ledger.put(RUN, RunState.CANCELLED)
    items = await house.read(follow=True)
    assert end_of(items) == LogEnd(
        lease_epoch=0, state=RunState.CANCELLED, reason=None, exit_code=None, bytes=0, digest="", complete=True
    )
    with pytest.raises(NotFound):
        async with aclosing(house.tail.follow(LogQuery(run_id=RunId("nobody")))) as items_of_nobody:
            await anext(items_of_nobody)


async def test_a_lost_runs_follower_ends_incomplete(house: House) -> None:
    house.begin()
    house.write(line(b"what came"))
    house.ledger.finish(key(1), state=RunState.LOST)
    for follow in (True, False):
        items = await house.read(follow=follow)
        assert text(items) == b"what came"
        assert end_of(items).state is RunState.LOST
        assert not end_of(items).complete


async def test_a_log_that_was_sealed_incomplete_says_so(house: House) -> None:
    house.begin()
    house.write(line(b"some"))
    house.ledger.finish(key(1), state=RunState.LOST)
    await house.seal(complete=False)
    assert not end_of(await house.read(follow=True)).complete


async def test_patience_begins_anew_with_each_byte(tmp_path: Path) -> None:
    house = House(tmp_path, TailSettings(incomplete_after_s=30.0))
    got: list[LogItem] = []
    arrived = asyncio.Event()
    house.begin()
    house.ledger.finish(key(1), state=RunState.LOST)
    async with asyncio.TaskGroup() as group:
        query = LogQuery(run_id=RUN, follow=True)
        group.create_task(collect(house.tail.follow(query), got, arrived), name="reader")
        for number in range(4):
            house.clock.advance(20.0)
            house.write(line(b"x"))
            expected = number + 1
            await until(arrived, lambda expected=expected: len(text(got)) == expected)
        assert not isinstance(got[-1], LogEnd)
        await house.seal()
    assert end_of(got).complete
    house.close()


async def test_a_deleted_log_is_expired(house: House) -> None:
    house.begin()
    house.ledger.put(RUN, RunState.SUCCEEDED, (LogAttempt(lease_epoch=1, number=1, finished=True, deleted=True),))
    with pytest.raises(OutOfRange) as caught:
        await house.read()
    assert caught.value.code is ErrorCode.LOG_EXPIRED


async def test_changed_bytes_are_a_gap_and_the_end_says_incomplete(house: House, tmp_path: Path) -> None:
    house.begin()
    house.write(line(b"aaaa"), line(b"bbbb"), line(b"cccc"))
    await house.end()
    house.store.close()
    (path,) = tmp_path.rglob("*.seg")
    path.write_bytes(path.read_bytes().replace(b"bbbb", b"bBbb"))
    items = await house.read(follow=True)
    assert text(items) == b"aaaacccc"
    assert not end_of(items).complete
    path.write_bytes(path.read_bytes()[:-10])
    house.store.close()
    assert not end_of(await house.read(follow=True)).complete


async def test_nothing_is_lost_or_told_twice_while_writer_and_readers_race(patient: House) -> None:
    """Readers begin, break off and resume at their last next_offset while another thread writes and rotates files."""
    chunks = [b"%06d|" % number * (1 + number % 40) for number in range(600)]
    whole = b"".join(chunks)
    patient.begin()

    def write() -> None:
        for chunk in chunks:
            patient.store.append(key(1), patient.store.end(key(1)), [line(chunk)])
            patient.store.sync([key(1)])
            loop.call_soon_threadsafe(patient.watch.notify, log_topic(key(1)))

    async def reader(break_after: int) -> bytes:
        found, offset = b"", 0
        while True:
            query = LogQuery(run_id=RUN, follow=True, from_offset=offset)
            async with aclosing(patient.tail.follow(query)) as items:
                number = 0
                async for item in items:
                    if isinstance(item, LogEnd):
                        assert item.complete
                        return found
                    if isinstance(item, LogBatch):
                        assert item.offset == offset
                        found += b"".join(record.data for record in item.records)
                        offset = item.next_offset
                        number += 1
                        if number == break_after:
                            break

    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(reader(number), name=f"reader {number}") for number in (1, 2, 5, 100_000)]
        await loop.run_in_executor(None, write)
        await patient.end()
    assert all(task.result() == whole for task in readers)


async def test_attempts_without_a_log_are_passed(house: House) -> None:
    house.begin(1)
    await house.end(1, state=RunState.QUEUED)
    house.begin(2)
    house.write(line(b"x"), epoch=2)
    await house.end(2)
    items = await house.read(lease_epoch=1, follow=True)
    assert [type(item) for item in items] == [LogStart, LogStart, LogBatch, LogEnd]
    assert replace(end_of(items), digest="").bytes == 1
