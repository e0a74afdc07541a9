"""A TCP proxy between a runner and its control plane, in a thread: it cuts, refuses, and passes nothing on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Self

PIECE_BYTES = 65_536


class Proxy:
    """Listens on a loopback port of its own. `target` is host:port; change it when the server's changes."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._refuses = False
        self._flowing = asyncio.Event()
        self._flowing.set()
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

    def hold(self, yes: bool) -> None:
        """Keep connections open and pass nothing on, in neither direction, until told otherwise."""
        self._do(self._flowing.clear if yes else self._flowing.set)

    def close(self) -> None:
        """End all of it."""
        self._do(self._server.close)
        self._do(self._abort_all)
        self._do(self._flowing.set)
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
        if others:
            await asyncio.wait(others, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
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
        try:
            await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(PIECE_BYTES):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            return  # reset by either end
        finally:
            writer.close()
