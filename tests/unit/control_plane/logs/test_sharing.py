"""Followers of one log read together, and none of them ever depends on another one."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.logs.sharing import FEW, KEPT_BATCHES, LONGEST_PAUSE_S, Followers
from control_plane.logs.store import Cursor, LogRead

KEY = AttemptKey(run_id=RunId("r"), lease_epoch=1)
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Disk:
    """A log of ten bytes a read; reads wait until they are let go, and are counted."""

    def __init__(self) -> None:
        self.reads: list[int] = []
        self.end = 1_000
        self.go = asyncio.Event()
        self.go.set()
        self.damaged = False

    async def read(self, key: AttemptKey, offset: int, cursor: Cursor | None) -> LogRead:
        self.reads.append(offset)
        end = self.end
        await self.go.wait()
        if offset >= end:
            return LogRead(records=(), next_offset=offset, cursor=None)
        record = LogRecord(kind=LogKind.STDOUT, at=AT, data=b"x" * 10)
        return LogRead(records=(record,), next_offset=offset + 10, cursor=None, damaged=self.damaged)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def several(followers: Followers, stack: ExitStack, count: int = 5) -> None:
    for _ in range(count):
        stack.enter_context(followers.following(KEY))


async def test_what_all_want_now_is_read_once(disk: Disk) -> None:
    followers = Followers(disk.read)
    with ExitStack() as stack:
        several(followers, stack)
        disk.go.clear()
        reads = [asyncio.ensure_future(followers.read(KEY, 0, None)) for _ in range(5)]
        await asyncio.wait(reads, timeout=0)
        disk.go.set()
        found = await asyncio.gather(*reads)
        assert disk.reads == [0]
        assert all(one is found[0] for one in found)
        await followers.read(KEY, 0, None)
        assert disk.reads == [0], "one that comes a little later gets the same"


async def test_a_single_follower_keeps_nothing(disk: Disk) -> None:
    followers = Followers(disk.read)
    with followers.following(KEY):
        await followers.read(KEY, 0, None)
        await followers.read(KEY, 0, None)
    assert disk.reads == [0, 0]


async def test_nothing_is_never_the_answer_of_an_older_read(disk: Disk) -> None:
    followers = Followers(disk.read)
    with ExitStack() as stack:
        several(followers, stack)
        disk.end = 0
        disk.go.clear()
        first = asyncio.ensure_future(followers.read(KEY, 0, None))
        await asyncio.wait([first], timeout=0)
        disk.end = 10  # bytes come while the read before them is under way
        second = asyncio.ensure_future(followers.read(KEY, 0, None))
        await asyncio.wait([second], timeout=0)
        disk.go.set()
        assert not (await first).records
        assert (await second).records


async def test_who_leaves_while_it_reads_for_all_leaves_nobody_waiting(disk: Disk) -> None:
    followers = Followers(disk.read)
    with ExitStack() as stack:
        several(followers, stack)
        disk.go.clear()
        first = asyncio.ensure_future(followers.read(KEY, 0, None))
        await asyncio.wait([first], timeout=0)
        second = asyncio.ensure_future(followers.read(KEY, 0, None))
        await asyncio.wait([second], timeout=0)
        first.cancel()
        disk.go.set()
        assert (await second).next_offset == 10


async def test_what_is_kept_is_bounded_goes_with_the_last_follower_and_is_never_damaged(disk: Disk) -> None:
    followers = Followers(disk.read)
    with ExitStack() as stack:
        several(followers, stack)
        for offset in range(0, 10 * (KEPT_BATCHES + 1), 10):
            await followers.read(KEY, offset, None)
        await followers.read(KEY, 0, None)
        assert disk.reads.count(0) == 2, "the oldest has gone"
        disk.damaged = True
        await followers.read(KEY, 500, None)
        await followers.read(KEY, 500, None)
        assert disk.reads.count(500) == 2
        disk.damaged = False
        await followers.read(KEY, 600, None)
    with ExitStack() as stack:
        several(followers, stack)
        await followers.read(KEY, 600, None)
    assert disk.reads.count(600) == 2


async def test_only_many_followers_pause_and_never_for_long(disk: Disk) -> None:
    followers = Followers(disk.read)
    with ExitStack() as stack:
        several(followers, stack, FEW)
        assert followers.pause_s(KEY) == 0
        several(followers, stack, 1)
        assert 0 < followers.pause_s(KEY) < LONGEST_PAUSE_S
        several(followers, stack, 1_000)
        assert followers.pause_s(KEY) == LONGEST_PAUSE_S
    assert followers.pause_s(KEY) == 0


async def test_many_logs_keep_no_more_than_one(disk: Disk) -> None:
    followers = Followers(disk.read)
    logs = [AttemptKey(run_id=RunId(f"r{number}"), lease_epoch=1) for number in range(KEPT_BATCHES + 5)]
    with ExitStack() as stack:
        for key in logs * 2:
            stack.enter_context(followers.following(key))
        for _ in range(2):
            for key in logs:
                await followers.read(key, 0, None)
        assert len(disk.reads) == 2 * len(logs), "each had gone before it was wanted again"
        await followers.read(logs[-1], 0, None)
        assert len(disk.reads) == 2 * len(logs)
