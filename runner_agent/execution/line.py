"""Frames over a unix socket, on the event loop's own readiness: no stream, no transport and no task for each."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from runner_agent.shim import protocol
from runner_agent.shim.codec import BadMessage, JsonObject

_READ_BYTES = 64 << 10

Hear = Callable[[JsonObject], None]
# Why nothing more is told; None: the other end has closed.
Ended = Callable[[BadMessage | None], None]


class Line:
    """One end of a conversation in frames. Either `receive` is awaited, by one task, or `listen` tells what comes."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._descriptor = connection.fileno()
        self._loop = asyncio.get_running_loop()
        self._frames = protocol.FrameBuffer(protocol.MAX_FRAME_BYTES)
        # What the socket has not taken yet, and whole frames behind that, by what they stand for.
        self._unsent = bytearray()
        self._behind: dict[object, bytes] = {}
        self._hear: Hear | None = None
        self._ended: Ended | None = None
        self._watched = False
        self._closed = False

    @classmethod
    def open(cls, directory: Path, name: str) -> Line:
        """Connect to the socket `name` in `directory`. Raises OSError."""
        return cls(protocol.connect(str(directory), name))

    def send(self, kind: str, body: JsonObject | None = None, *, newest: str = "") -> None:
        """Send a frame; what the socket does not take now follows by itself. Raises OSError if nobody is there.

        `newest`: of frames that are sent under this word the newest says it all, and replaces one that waits whole.
        Whatever is said again and again must come so: who does not read (a shim that is stopped) may do so for days.
        Then a line holds one such frame for each word, beside the few that are said once.
        """
        data = protocol.encode_frame(kind, body)
        if self._closed:
            raise ConnectionResetError("the line is closed")
        if self._unsent:
            self._behind[newest or object()] = data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            self._loop.add_writer(self._descriptor, self._send_on)

    def _send_on(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._unsent)  # whoever reads here is told of the end
        del self._unsent[:sent]
        if not self._unsent:
            self._unsent += b"".join(self._behind.values())
            self._behind.clear()
        if not self._unsent:
            self._loop.remove_writer(self._descriptor)

    async def receive(self) -> JsonObject | None:
        """The next frame; None when the other end has closed, cleanly or not. Raises BadMessage."""
        self._look_away()
        while (frame := self._frames.next_frame()) is None:
            try:
                data = await self._loop.sock_recv(self._socket, _READ_BYTES)
            except OSError:
                data = b""
            if not data:
                return None
            self._frames.feed(data)
        return frame

    def listen(self, hear: Hear, ended: Ended) -> None:
        """Tell each frame, then the end, unless the line is closed before. A BadMessage of `hear` is such an end too.

        Another listener may take over, also from within a call of the first.

        What has come already is told before this returns.
        """
        if not self._watched:
            self._watched = True
            self._loop.add_reader(self._descriptor, self._readable)
        self._hear, self._ended = hear, ended
        self._tell()

    def has_ended(self) -> bool:
        """Whether the other end has closed, as far as it can be seen now; what has come is kept as by `pause`."""
        try:
            while data := self._socket.recv(_READ_BYTES):
                self._frames.feed(data)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def pause(self) -> None:
        """Tell nothing more for now; what comes is kept for who listens or receives next."""
        self._hear = self._ended = None

    def _look_away(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._descriptor)

    def _readable(self) -> None:
        if self._hear is None:
            self._look_away()
            return
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._frames.feed(data)
        self._tell()
        if not data:
            self._end(None)

    def _tell(self) -> None:
        try:
            while self._hear is not None and (frame := self._frames.next_frame()) is not None:
                self._hear(frame)
        except BadMessage as error:
            self._end(error)

    def _end(self, why: BadMessage | None) -> None:
        ended = self._ended
        self.close()
        if ended is not None:
            ended(why)

    def close(self) -> None:
        """Drop it; nothing more is told."""
        if self._closed:
            return
        self._closed = True
        self._hear = self._ended = None
        self._look_away()
        if self._unsent:
            self._loop.remove_writer(self._descriptor)
        self._socket.close()
