"""Frames on the unix sockets: a length (4 bytes, little endian) and a JSON object. Also how long socket paths shrink.

Conversation of an agent with the fork server, and then, on the same connection, with the shim that was forked for it
(so that no secret ever passes through the fork server):

    agent:       fork {version, oldest, run_directory}, start {start}      fork server:  refused {message} | nothing
    shim:        ready {version, pid} | refused {message}
    shim:        accepted {} | refused {message}
    then events, and from the agent: stop, renew, add_mask.

The agent waits for nothing before it sends the start. The fork server takes not a byte more than its own frame off the
connection: what follows it is for the shim.

A later agent connects to the shim's own socket: attach {version, oldest, run_id, epoch} -> attached {version, pid,
offset} | refused {code, message}, then every event from the first on is told again. Version N speaks N-1; a shim of an
unknown version is left alone, and SIGTERM is the stop that needs no version.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from runner_agent.shim.codec import BadMessage, JsonObject, compact_json, read_json

PROTOCOL_VERSION = 1
OLDEST_VERSION = 1
MAX_FRAME_BYTES = 48 << 20
SMALL_FRAME_BYTES = 512 << 10
REQUEST_BYTES = 16 << 10  # to the fork server
CONTROL_SOCKET = "control"
FORK_SERVER_SOCKET = "fork"
BACKLOG = 1024  # nobody waits for a place in it, and a burst of starts must find one
ALREADY_ACTIVE = 17  # exit status of a fork server that finds its place taken
_LENGTH = struct.Struct("<I")
_CREDENTIALS = struct.Struct("3i")
_ADDRESS_BYTES = 107


def versions() -> JsonObject:
    """What we speak, for a first frame: `version` is the newest, `oldest` the oldest."""
    return {"version": PROTOCOL_VERSION, "oldest": OLDEST_VERSION}


def speaks_with(frame: JsonObject) -> bool:
    """Whether the other end's versions and ours meet."""
    newest, oldest = frame.get("version"), frame.get("oldest")
    if not isinstance(newest, int) or not isinstance(oldest, int):
        return False
    return oldest <= PROTOCOL_VERSION and newest >= OLDEST_VERSION


def encode_frame(kind: str, body: JsonObject | None = None) -> bytes:
    """One frame. `kind` goes into the object as `type`."""
    payload = compact_json({"type": kind, **(body or {})}).encode("ascii")
    return _LENGTH.pack(len(payload)) + payload


class FrameBuffer:
    """Bytes in, whole frames out. A frame above `limit_bytes` raises BadMessage."""

    def __init__(self, limit_bytes: int = SMALL_FRAME_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        self._held += data

    def next_frame(self) -> JsonObject | None:
        """The next whole frame, or None until more bytes have come."""
        if len(self._held) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._held)
        if size > self.limit_bytes:
            raise BadMessage(f"a frame of {size} bytes is above the limit of {self.limit_bytes}")
        end = _LENGTH.size + size
        if len(self._held) < end:
            return None
        payload = bytes(self._held[_LENGTH.size : end])
        del self._held[:end]
        return decode_payload(payload)


def receive_frame(connection: socket.socket, limit_bytes: int) -> JsonObject | None:
    """Exactly one frame, and nothing of what follows it; None at the end.

    Raises BadMessage also for a part of a frame (small ones are sent whole), OSError, BlockingIOError.
    """
    head = connection.recv(_LENGTH.size, socket.MSG_PEEK)
    if not head:
        return None
    if len(head) < _LENGTH.size or frame_length(head) > limit_bytes:
        raise BadMessage("not the length of a small frame")
    end = _LENGTH.size + frame_length(head)
    frame = connection.recv(end)
    if len(frame) < end:
        raise BadMessage("only a part of a frame")
    return decode_payload(frame[_LENGTH.size :])


def frame_length(head: bytes) -> int:
    """The payload length that the first four bytes of a frame announce."""
    (size,) = _LENGTH.unpack(head)
    return int(size)


def decode_payload(payload: bytes) -> JsonObject:
    """The object in a frame. Raises BadMessage."""
    try:
        value = read_json(payload.decode())
    except (ValueError, RecursionError):
        raise BadMessage("a frame is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise BadMessage("a frame is not an object with a type")
    return value


def peer_is_us(connection: socket.socket) -> bool:
    """Whether the other end runs as our own user (SO_PEERCRED), or as root."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return uid in (os.geteuid(), 0)


def listen(path: str, backlog: int = BACKLOG) -> socket.socket:
    """A non-blocking unix socket with mode 0600, in place of what a dead owner left. Relative paths are fine."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            os.unlink(path)
            listener.bind(path)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.listen(backlog)
    listener.setblocking(False)
    return listener


def connect(directory: str, name: str) -> socket.socket:
    """Connect to the socket `name` in `directory`, however long that path is. The socket is non-blocking.

    It waits for nobody: a stopped process whose backlog is full would otherwise stop us too. Raises OSError (ENOENT,
    ECONNREFUSED: nobody listens; EAGAIN: who listens takes nobody any more; EPERM: another user's process listens).
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A unix address holds 107 bytes; through /proc the directory costs only its descriptor's number.
        connection.connect(f"/proc/self/fd/{directory_fd}/{name}")
        if not peer_is_us(connection):
            raise PermissionError(errno.EPERM, "the socket belongs to another user", name)
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory_fd)
    return connection


def fits_in_address(path: str) -> bool:
    """Whether a program can bind or connect to this path as it is."""
    return len(os.fsencode(path)) <= _ADDRESS_BYTES
