"""A busy stream rests, an idle one never; news of the log come at once after a pause, and not for every turn."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator

import pytest

from runner_agent.shim.loop import Loop
from runner_agent.shim.messages import Spooled, StepEnded, StepRecord
from runner_agent.shim.pace import BUSY_NS, BUSY_READS, Pace
from runner_agent.shim.peers import NEWS_BYTES, NEWS_NS, Peer, Peers
from runner_agent.shim.protocol import FrameBuffer
from runner_agent.shim.wire import event_from_frame

SOON = BUSY_NS // 4


def test_the_first_reads_after_a_pause_never_wait() -> None:
    pace, now = Pace(), 5 * BUSY_NS
    for _ in range(3):
        for read in range(BUSY_READS):
            assert not pace.is_busy(now), read
            pace.has_read(now)
            now += SOON
        now += 2 * BUSY_NS


def test_a_stream_that_is_ready_again_and_again_rests_once_in_a_while() -> None:
    pace, now = Pace(), 5 * BUSY_NS
    rests = 0
    for _ in range(100):
        if pace.is_busy(now):
            rests += 1
            now += 2 * SOON
            pace.has_rested(now)
        pace.has_read(now)
        now += SOON
    assert 100 // 5 - BUSY_READS <= rests <= 100 // 4


@pytest.fixture
def told() -> Iterator[tuple[Peers, socket.socket]]:
    ours, theirs = socket.socketpair()
    peers = Peers(Loop(), lambda peer, frame: None)
    peers.subscribe(peers.add(ours))
    theirs.setblocking(False)
    yield peers, theirs
    peers.close()
    theirs.close()


def news(theirs: socket.socket) -> list[int]:
    frames = FrameBuffer()
    try:
        frames.feed(theirs.recv(1 << 20))
    except BlockingIOError:
        return []
    offsets = []
    while (frame := frames.next_frame()) is not None:
        assert isinstance(frame["offset"], int)
        offsets.append(frame["offset"])
    return offsets


def test_growth_after_a_pause_is_told_at_once_and_then_gathered(told: tuple[Peers, socket.socket]) -> None:
    peers, theirs = told
    news(theirs)
    peers.spooled(10, NEWS_NS)
    assert news(theirs) == [10]
    assert peers.news_due_s(NEWS_NS) == math.inf
    for turn in range(1, 5):
        peers.spooled(10 + turn, NEWS_NS + turn)
    assert news(theirs) == []
    assert peers.news_due_s(NEWS_NS + 4) == (NEWS_NS - 4) / 1e9
    peers.spooled(14, 2 * NEWS_NS)
    assert news(theirs) == [14]


def test_much_growth_does_not_wait(told: tuple[Peers, socket.socket]) -> None:
    peers, theirs = told
    news(theirs)
    peers.spooled(10, 0)
    peers.spooled(9 + NEWS_BYTES, 1)
    assert news(theirs) == [10]
    peers.spooled(10 + NEWS_BYTES, 2)
    assert news(theirs) == [10 + NEWS_BYTES]


def test_who_comes_later_is_told_the_newest(told: tuple[Peers, socket.socket]) -> None:
    peers, _ = told
    peers.spooled(10, 0)
    peers.spooled(11, 1)
    ours, later = socket.socketpair()
    with later:
        added: Peer = peers.add(ours)
        peers.subscribe(added)
        assert news(later) == [11]


def test_who_need_not_be_woken_for_it_alone_hears_it_with_the_next(told: tuple[Peers, socket.socket]) -> None:
    peers, theirs = told
    ended = StepEnded(record=StepRecord(index=0))
    peers.tell(ended, with_next=True)
    with pytest.raises(BlockingIOError):
        theirs.recv(1 << 16)
    assert peers.have_unsent, "it is not forgotten"
    peers.spooled(5, NEWS_NS)
    frames = FrameBuffer()
    frames.feed(theirs.recv(1 << 16))
    assert [event_from_frame(frame) for frame in iter(frames.next_frame, None)] == [ended, Spooled(offset=5)]
