"""The agents that are connected to a shim: their requests, and the events that are told to them."""

from __future__ import annotations

import errno
import math
import os
import signal
import socket
from collections.abc import Callable

from runner_agent.shim import protocol
from runner_agent.shim.codec import BadMessage, JsonObject
from runner_agent.shim.loop import READ, WRITE, Loop
from runner_agent.shim.messages import Exited, Progress, Result, Spooled, Started, StepEnded, StopPhase
from runner_agent.shim.wire import event_to_frame

MAX_PEERS = 16
MAX_UNSENT_BYTES = 4 << 20
# News of the log's growth: at once after a pause, else not more often than this, or by so much.
NEWS_NS = 8_000_000
NEWS_BYTES = 1 << 20

Told = Started | StepEnded | StopPhase | Spooled | Progress | Result | Exited
Request = Callable[["Peer", JsonObject], None]


class Peer:
    """One connection. Only a peer that started or attached is told events."""

    def __init__(self, connection: socket.socket, frames: protocol.FrameBuffer) -> None:
        self.connection = connection
        self.frames = frames
        self.unsent = bytearray()
        self.subscribed = False
        self.told_offset = 0
        # Whether what is unsent was not tried yet, because it goes with the next.
        self.waits = False


class Peers:
    """All connections of agents, and the socket on which later agents come."""

    def __init__(self, loop: Loop, request: Request) -> None:
        self._loop = loop
        self._request = request
        self._listener: socket.socket | None = None
        self._peers: list[Peer] = []
        self._history: list[bytes] = []
        self._latest: dict[type[Told], bytes] = {}
        self._offset = 0
        self._told_offset = 0
        self._told_ns = -NEWS_NS

    def listen(self, listener: socket.socket) -> None:
        """Accept later agents."""
        self._listener = listener
        self._loop.watch(listener.fileno(), READ, self._accept)

    def add(self, connection: socket.socket, frames: protocol.FrameBuffer | None = None) -> Peer:
        """Serve this connection; `frames` holds what was read of it already."""
        connection.setblocking(False)
        peer = Peer(connection, frames or protocol.FrameBuffer())
        self._peers.append(peer)
        self._loop.watch(connection.fileno(), READ, lambda: self._read(peer))
        return peer

    def subscribe(self, peer: Peer) -> None:
        """Tell it everything from the first event on."""
        peer.subscribed = True
        for frame in (*self._history, *self._latest.values()):
            self.send(peer, frame)
        self._tell_offset(peer)

    def tell(self, event: Told, *, with_next: bool = False) -> None:
        """Tell all; the lasting ones (steps, stops, exit) are kept for later agents, of the others only the newest.

        `with_next`: another one follows soon, and nobody needs to be woken for this one alone.
        """
        frame = event_to_frame(event)
        if isinstance(event, Progress | Result):
            self._latest[type(event)] = frame
        else:
            self._history.append(frame)
        for peer in [peer for peer in self._peers if peer.subscribed]:
            if with_next and not peer.unsent:
                peer.unsent += frame
                peer.waits = True
            else:
                self.send(peer, frame)

    def spooled(self, offset: int, now_ns: int) -> None:
        """The log ends at `offset`: tell whoever has taken the last news, unless that was only just now."""
        self._offset = offset
        grown = offset - self._told_offset
        if grown and (now_ns - self._told_ns >= NEWS_NS or grown >= NEWS_BYTES):
            self._told_offset, self._told_ns = offset, now_ns
            for peer in [peer for peer in self._peers if peer.subscribed]:
                self._tell_offset(peer)

    def _tell_offset(self, peer: Peer) -> None:
        if peer.told_offset < self._offset and (peer.waits or not peer.unsent):
            peer.told_offset = self._offset
            self.send(peer, event_to_frame(Spooled(offset=self._offset)))

    def send(self, peer: Peer, frame: bytes) -> None:
        """Queue a frame; a peer that takes nothing is dropped when too much waits for it."""
        peer.waits = False
        peer.unsent += frame
        if len(peer.unsent) > MAX_UNSENT_BYTES:
            self.drop(peer)
            return
        self._flush(peer)

    def drop(self, peer: Peer) -> None:
        """Close the connection."""
        if peer in self._peers:
            self._peers.remove(peer)
            self._loop.forget(peer.connection.fileno())
            peer.connection.close()

    def news_due_s(self, now_ns: int) -> float:
        """In how many seconds `spooled` has something to tell; infinite while it has not."""
        if self._offset == self._told_offset:
            return math.inf
        return max(0, self._told_ns + NEWS_NS - now_ns) / 1e9

    @property
    def have_unsent(self) -> bool:
        """Whether something still waits to be taken."""
        return any(peer.unsent for peer in self._peers)

    def close(self) -> None:
        """Close everything."""
        for peer in list(self._peers):
            self.drop(peer)
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                signal.sigtimedwait((), 0.05)  # no descriptor to be had: do not spin
            return
        if not protocol.peer_is_us(connection) or len(self._peers) >= MAX_PEERS:
            connection.close()
            return
        self.add(connection)

    def _read(self, peer: Peer) -> None:
        if peer.unsent:
            self._flush(peer)
        try:
            data = peer.connection.recv(64 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(peer)
            return
        peer.frames.feed(data)
        try:
            while peer in self._peers and (frame := peer.frames.next_frame()) is not None:
                self._request(peer, frame)
        except BadMessage as error:
            self.send(peer, protocol.encode_frame("refused", {"code": "BAD_MESSAGE", "message": str(error)}))
            self.drop(peer)

    def _flush(self, peer: Peer) -> None:
        try:
            while peer.unsent:
                del peer.unsent[: peer.connection.send(peer.unsent)]
        except BlockingIOError:
            self._loop.watch(peer.connection.fileno(), READ | WRITE, lambda: self._read(peer))
            return
        except OSError:
            self.drop(peer)
            return
        if peer in self._peers:
            self._loop.watch(peer.connection.fileno(), READ, lambda: self._read(peer))
            if peer.subscribed:
                self._tell_offset(peer)


def refuse(connection: socket.socket, code: str, message: str) -> None:
    """Tell a peer that is not served why not, as far as it listens."""
    try:
        connection.settimeout(1.0)
        connection.sendall(protocol.encode_frame("refused", {"code": code, "message": message}))
    except OSError:
        os.write(2, f"shim: {message}\n".encode())
