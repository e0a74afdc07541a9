"""A TCP proxy between a runner and its control plane, in a thread: every way in which a network can misbehave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

PIECE_BYTES = 65_536


class Way(StrEnum):
    """A direction. UP: from the runner to the control plane."""

    UP = "UP"
    DOWN = "DOWN"


BOTH = (Way.UP, Way.DOWN)


@dataclass(slots=True)
class _Lane:
    """What happens to the bytes of one direction, of all connections together."""

    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    swallows: bool = False
    bytes_per_s: float | None = None
    free_at_s: float = 0.0
    passed: int = 0


class Proxy:
    """Listens on a loopback port of its own. `target` is host:port; change it when the server's changes.

    `latency_s`, `idle_s` and `cut_after` may be set at any time; they count for what comes from then on.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        # Added to every piece, in each direction.
        self.latency_s = 0.0
        # A connection in which nothing moved for so long is reset, as by a proxy or a NAT that grew tired of it.
        self.idle_s: float | None = None
        # Asked once for each connection: reset it after so many bytes in both directions; None: never.
        self.cut_after: Callable[[], int | None] = lambda: None
        # How many connections were taken in, and how many the proxy reset by itself.
        self.taken = 0
        self.resets = 0
        self._refuses = False
        self._lanes = {way: _Lane() for way in BOTH}
        for lane in self._lanes.values():
            lane.flowing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = listening.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection that is open now."""
        self._do(self._abort_all)

    def refuse(self, yes: bool) -> None:
        """Close what is open, and every new connection at once, until told otherwise."""
        self._refuses = yes
        if yes:
            self.cut()

    def hold(self, yes: bool, *ways: Way) -> None:
        """Keep connections open and pass nothing on, in these directions (both), until told otherwise."""
        for way in ways or BOTH:
            self._do(self._lanes[way].flowing.clear if yes else self._lanes[way].flowing.set)

    def swallow(self, yes: bool, *ways: Way) -> None:
        """Take bytes in and throw them away, without a word to either end, until told otherwise.

        What was swallowed is gone: the connections of that time are of no use afterwards.
        """
        for way in ways or BOTH:
            self._lanes[way].swallows = yes

    def shape(self, bytes_per_s: float | None, *ways: Way) -> None:
        """Pass no more than this on, in these directions (both); None: as much as there is."""
        for way in ways or BOTH:
            self._lanes[way].bytes_per_s = bytes_per_s

    def passed(self, way: Way) -> int:
        """Bytes passed on so far."""
        return self._lanes[way].passed

    def close(self) -> None:
        """End all of it."""
        self._do(self._server.close)
        self._do(self._abort_all)
        self.hold(False)
        asyncio.run_coroutine_threadsafe(self._others_ended(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, what: Callable[[], object]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (what(), done.set()))
        assert done.wait(10)

    def _abort_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    @staticmethod
    async def _others_ended() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        self.taken += 1
        try:
            if self._refuses:
                return
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return  # the server is away: so are we
        finally:
            if self._refuses or "far_writer" not in locals():
                writer.transport.abort()
        ends = {writer, far_writer}
        self._open |= ends
        link = _Link(budget=self.cut_after(), moved_s=time.monotonic())
        try:
            await self._first_to_end(
                asyncio.gather(
                    self._pass_on(reader, far_writer, Way.UP, link), self._pass_on(far_reader, writer, Way.DOWN, link)
                ),
                self._tire_of(link),
            )
        except _Reset:
            self.resets += 1
        except asyncio.CancelledError:
            return  # the proxy closes; a task of asyncio's streams must not end cancelled
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    @staticmethod
    async def _first_to_end(*awaitables: Awaitable[object]) -> None:
        tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tire_of(self, link: _Link) -> None:
        while True:
            await asyncio.sleep(0.05)
            if self.idle_s is not None and time.monotonic() - link.moved_s > self.idle_s:
                raise _Reset

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way, link: _Link) -> None:
        lane = self._lanes[way]
        try:
            while data := await reader.read(PIECE_BYTES):
                link.moved_s = time.monotonic()
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                await lane.flowing.wait()
                if lane.swallows:
                    continue
                await self._in_turn(lane, len(data))
                await self._write(writer, data, lane, link)
        except OSError:
            return  # reset by either end
        finally:
            writer.close()

    @staticmethod
    async def _in_turn(lane: _Lane, size: int) -> None:
        """Wait until the shaped link has carried this much."""
        if lane.bytes_per_s is None:
            return
        now_s = time.monotonic()
        lane.free_at_s = max(now_s, lane.free_at_s) + size / lane.bytes_per_s
        await asyncio.sleep(lane.free_at_s - now_s)

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, data: bytes, lane: _Lane, link: _Link) -> None:
        if link.budget is not None:
            data = data[: link.budget]
            link.budget -= len(data)
        writer.write(data)
        await writer.drain()
        lane.passed += len(data)
        if link.budget == 0:
            raise _Reset


@dataclass(slots=True)
class _Link:
    """One connection: what it may still carry, and when something moved in it last."""

    budget: int | None
    moved_s: float


class _Reset(Exception):
    """The proxy ends a connection by itself."""
