"""Frames over a unix socket: told or received, whole, in order, with the end."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from runner_agent.execution.line import Line
from runner_agent.execution.shim_link import Reason, ShimLink
from runner_agent.shim import protocol
from runner_agent.shim.codec import BadMessage, JsonObject

PATIENCE_S = 30


class Listener:
    """What a line has told."""

    def __init__(self) -> None:
        self.heard: list[JsonObject] = []
        self.why: list[BadMessage | None] = []
        self.ended = asyncio.Event()

    def hear(self, frame: JsonObject) -> None:
        self.heard.append(frame)

    def end(self, why: BadMessage | None) -> None:
        self.why.append(why)
        self.ended.set()

    async def until_the_end(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.ended.wait()


def pair() -> tuple[Line, socket.socket]:
    ours, theirs = socket.socketpair()
    return Line(ours), theirs


async def test_frames_are_told_in_order_however_they_come_and_then_the_end() -> None:
    line, other = pair()
    listener = Listener()
    line.listen(listener.hear, listener.end)
    data = protocol.encode_frame("one", {"n": 1}) + protocol.encode_frame("two", {"n": 2})
    for at in range(0, len(data), 3):
        other.send(data[at : at + 3])
        await asyncio.sleep(0)
    other.close()
    await listener.until_the_end()
    assert [(frame["type"], frame["n"]) for frame in listener.heard] == [("one", 1), ("two", 2)]
    assert listener.why == [None]


async def test_one_who_pauses_leaves_the_rest_to_who_receives() -> None:
    line, other = pair()
    told: list[JsonObject] = []
    first = asyncio.Event()

    def hear(frame: JsonObject) -> None:
        told.append(frame)
        line.pause()
        first.set()

    line.listen(hear, lambda _: None)
    other.send(b"".join(protocol.encode_frame("frame", {"n": number}) for number in range(3)))
    async with asyncio.timeout(PATIENCE_S):
        await first.wait()
        other.send(protocol.encode_frame("frame", {"n": 3}))
        received = [await line.receive() for _ in range(3)]
        other.close()
        assert await line.receive() is None
    assert [frame["n"] for frame in told] == [0]
    assert [frame["n"] for frame in received if frame is not None] == [1, 2, 3]
    line.close()


async def test_another_listener_takes_over_within_a_call_of_the_first() -> None:
    line, other = pair()
    second = Listener()
    line.listen(lambda _: line.listen(second.hear, second.end), lambda _: None)
    other.send(protocol.encode_frame("first") + protocol.encode_frame("second"))
    other.close()
    await second.until_the_end()
    assert [frame["type"] for frame in second.heard] == ["second"]


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", (2).to_bytes(4, "little") + b"[]"])
async def test_what_cannot_be_understood_is_an_end_of_its_own(data: bytes) -> None:
    line, other = pair()
    listener = Listener()
    line.listen(listener.hear, listener.end)
    other.send(data)
    await listener.until_the_end()
    assert isinstance(listener.why[0], BadMessage)
    other.close()


async def test_a_frame_larger_than_the_socket_takes_arrives_whole() -> None:
    line, other = pair()
    text = "x" * (4 << 20)
    line.send("large", {"text": text})
    line.send("after")
    reader = Line(other)
    async with asyncio.timeout(PATIENCE_S):
        large, after = await reader.receive(), await reader.receive()
    assert large is not None
    assert after is not None
    assert (large["text"], after["type"]) == (text, "after")
    line.close()
    reader.close()


async def test_nobody_there_and_a_closed_line_are_said() -> None:
    line, other = pair()
    other.close()
    with pytest.raises(ConnectionError):
        line.send("hello")
    line.close()
    with pytest.raises(ConnectionError):
        line.send("hello")


def test_who_accepts_nobody_holds_up_nobody(tmp_path: Path) -> None:
    """A stopped shim, whose backlog each try to find it again fills a little more, must not stop the agent."""
    listener = protocol.listen(os.path.relpath(tmp_path / "control"), backlog=0)
    with listener, protocol.connect(str(tmp_path), "control"), pytest.raises(BlockingIOError):
        protocol.connect(str(tmp_path), "control")


def test_a_request_is_taken_without_a_byte_of_what_follows() -> None:
    ours, theirs = socket.socketpair()
    ours.send(protocol.encode_frame("fork", {"run_directory": "run.1"}) + protocol.encode_frame("start", {"s": 1}))
    request = protocol.receive_frame(theirs, protocol.REQUEST_BYTES)
    assert request == {"type": "fork", "run_directory": "run.1"}
    assert theirs.recv(1 << 16) == protocol.encode_frame("start", {"s": 1})
    ours.send(b"\x05\0")
    with pytest.raises(BadMessage):
        protocol.receive_frame(theirs, protocol.REQUEST_BYTES)
    ours.close()
    theirs.recv(1 << 16)
    assert protocol.receive_frame(theirs, protocol.REQUEST_BYTES) is None
    theirs.close()


def filled(line: Line) -> int:
    """Send until the socket takes no more; how many frames that were."""
    sent = 0
    while not line._unsent:
        line.send("filler", {"n": sent, "text": "x" * 1_000})
        sent += 1
    return sent


async def read_all(other: socket.socket, until: str) -> list[JsonObject]:
    """Every frame up to one of this kind."""
    other.setblocking(False)
    buffer, found = protocol.FrameBuffer(protocol.MAX_FRAME_BYTES), list[JsonObject]()
    async with asyncio.timeout(PATIENCE_S):
        while not found or found[-1]["type"] != until:
            buffer.feed(await asyncio.get_running_loop().sock_recv(other, 65_536))
            while (frame := buffer.next_frame()) is not None:
                found.append(frame)
    return found


async def test_what_is_said_again_and_again_to_who_does_not_read_waits_once() -> None:
    line, other = pair()
    count = filled(line)
    line.send("once", {"n": 1})
    for number in range(10_000):
        line.send("renew", {"n": number}, newest="renew")
    line.send("once", {"n": 2})
    assert len(line._unsent) + sum(map(len, line._behind.values())) < 3_000
    line.send("last")
    frames = await read_all(other, "last")
    assert [frame["n"] for frame in frames[:count]] == list(range(count)), "what the socket has begun to take is whole"
    assert [(frame["type"], frame.get("n")) for frame in frames[count:]] == [
        ("once", 1),
        ("renew", 9_999),
        ("once", 2),
        ("last", None),
    ]
    line.close()
    other.close()


async def test_of_stops_the_first_and_the_shortest_grace_are_told() -> None:
    line, other = pair()
    filled(line)
    link = ShimLink(Path(), line, 1)
    for reason, grace_s in (
        (Reason.USER_CANCEL, 10.0),
        (Reason.USER_CANCEL, 10.0),
        (Reason.DEADLINE_PASSED, 5.0),
        (Reason.USER_CANCEL, 7.0),
        (Reason.USER_CANCEL, 1.0),
    ):
        link.stop(reason, 15, grace_s)
    line.send("last")
    frames = [frame for frame in await read_all(other, "last") if frame["type"] == "stop"]
    assert [(frame["reason"], frame["grace_s"]) for frame in frames] == [("USER_CANCEL", 10.0), ("USER_CANCEL", 1.0)]
    line.close()
    other.close()
