"""BANKSMAN_SOCKET: what a run may tell its shim. One JSON object per line, one answer line for each.

    {"type": "add_mask", "value": "text"}  or  {"type": "add_mask", "value_base64": "..."}
    {"type": "progress", "percent": 40, "stage": "compiling", "note": "file 4 of 10"}
    {"type": "result", "value": <any JSON of at most 256 KiB>}

Of progress at least one part; `fraction` (0 to 1) may stand for percent and `text` for note.
Answers: {"ok": true} once it is in force, or {"ok": false, "error": "..."}. Values are never sent back.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable

from runner_agent.shim import protocol
from runner_agent.shim.codec import BadMessage
from runner_agent.shim.loop import READ, Loop
from runner_agent.shim.records import dataclass
from runner_agent.shim.results import MAX_RESULT_BYTES

MAX_LINE_BYTES = 512 << 10
MAX_TEXT_CHARACTERS = 1024
MAX_STAGE_CHARACTERS = 128
MAX_CLIENTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVerbs:
    """What the lines do. `add_mask` is False for a value that is too short."""

    add_mask: Callable[[bytes], bool]
    progress: Callable[[float | None, str, str], None]
    result: Callable[[str], None]


class RunSocket:
    """The listening socket and its clients, all of our own user."""

    def __init__(self, loop: Loop, path: str, listener: socket.socket, verbs: RunVerbs) -> None:
        self.path = path
        self._loop = loop
        self._verbs = verbs
        self._clients: dict[int, tuple[socket.socket, bytearray]] = {}
        self._listener = listener
        loop.watch(self._listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Close everything."""
        for descriptor in list(self._clients):
            self._drop(descriptor)
        self._loop.forget(self._listener.fileno())
        self._listener.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if not protocol.peer_is_us(connection) or len(self._clients) >= MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        descriptor = connection.fileno()
        self._clients[descriptor] = (connection, bytearray())
        self._loop.watch(descriptor, READ, lambda: self._read(descriptor))

    def _read(self, descriptor: int) -> None:
        connection, held = self._clients[descriptor]
        try:
            data = connection.recv(64 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        held += data
        lines = held.split(b"\n")
        held[:] = lines.pop() if data else b""
        for line in lines:
            if not self._answer(connection, bytes(line)):
                self._drop(descriptor)
                return
        if not data or len(held) > MAX_LINE_BYTES:
            self._drop(descriptor)

    def _answer(self, connection: socket.socket, line: bytes) -> bool:
        """Do what a line says and answer; False if the client does not listen."""
        if not line.strip():
            return True
        try:
            perform(line, self._verbs)
            answer: dict[str, object] = {"ok": True}
        except BadMessage as error:
            answer = {"ok": False, "error": str(error)}
        try:
            connection.send(json.dumps(answer).encode() + b"\n")
        except OSError:
            return False
        return True

    def _drop(self, descriptor: int) -> None:
        entry = self._clients.pop(descriptor, None)
        if entry is not None:
            self._loop.forget(descriptor)
            entry[0].close()


def perform(line: bytes, verbs: RunVerbs) -> None:
    """Do what one line says. Raises BadMessage, which never quotes a value."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise BadMessage("the line is not JSON") from None
    if not isinstance(message, dict):
        raise BadMessage("the line is not a JSON object")
    match message.get("type"):
        case "add_mask":
            if not verbs.add_mask(_secret(message)):
                raise BadMessage("a value of fewer than 8 bytes cannot be masked")
        case "progress":
            _tell_progress(message, verbs)
        case "result":
            text = json.dumps(message.get("value"), ensure_ascii=False, separators=(",", ":"))
            if len(text.encode("utf-8", "surrogatepass")) > MAX_RESULT_BYTES:
                raise BadMessage(f"the result is larger than {MAX_RESULT_BYTES} bytes")
            verbs.result(text)
        case _:
            raise BadMessage("type is not one of add_mask, progress, result")


def _secret(message: dict[str, object]) -> bytes:
    value, encoded = message.get("value"), message.get("value_base64")
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if not isinstance(encoded, str):
        raise BadMessage("add_mask needs value or value_base64")
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        raise BadMessage("value_base64 is not base64") from None


def _tell_progress(message: dict[str, object], verbs: RunVerbs) -> None:
    fraction = _number(message, "fraction", 1)
    percent = _number(message, "percent", 100)
    if percent is not None:
        fraction = percent / 100
    stage = _text(message, "stage", MAX_STAGE_CHARACTERS)
    note = _text(message, "note", MAX_TEXT_CHARACTERS) or _text(message, "text", MAX_TEXT_CHARACTERS)
    if fraction is None and not stage and not note:
        raise BadMessage("progress needs percent, stage or note")
    verbs.progress(fraction, stage, note)


def _number(message: dict[str, object], name: str, most: int) -> float | None:
    value = message.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise BadMessage(f"{name} is not a number from 0 to {most}")
    return float(value)


def _text(message: dict[str, object], name: str, most: int) -> str:
    value = message.get(name, "")
    if not isinstance(value, str):
        raise BadMessage(f"{name} is not a string")
    return value[:most]
