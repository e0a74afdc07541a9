"""What waits to be sent in one session: control before logs, both bounded in bytes.

Control messages queue here; log bytes never do: when there is credit the writer is given a turn and reads the spool.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.log_flow import LogFlow, LogTurn
from runner_agent.domain.messages import AttemptExited, AttemptProgress, Heartbeat, Hello, RunnerMessage

CONTROL_LIMIT_BYTES = 64 << 20
_BASE_WEIGHT_BYTES = 128


class OutboxFull(RuntimeError):
    """The server has not read for long: control messages no longer fit. End the session, Hello tells them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Why we end the session and when to come back; None: by the ordinary back-off."""

    reason: str
    reconnect_after_s: float | None = None
    jitter_s: float = 0.0


class Outbox:
    """Two lanes of one session. Filled by the reconciler, emptied by the session's one writer task."""

    def __init__(self, now_boot_ns: Callable[[], int], *, control_limit_bytes: int = CONTROL_LIMIT_BYTES) -> None:
        self.flow = LogFlow()
        self.parting: Parting | None = None
        self._now_boot_ns = now_boot_ns
        self._limit_bytes = control_limit_bytes
        self._control: deque[tuple[RunnerMessage, int]] = deque()
        self._control_bytes = 0
        self._closed = False
        self._wake = asyncio.Event()

    def put(self, message: RunnerMessage) -> None:
        """Queue a control message. Raises OutboxFull."""
        weight = weight_bytes(message)
        if self._control_bytes + weight > self._limit_bytes:
            raise OutboxFull(f"{self._control_bytes} bytes of control messages wait")
        self._control.append((message, weight))
        self._control_bytes += weight
        self._wake.set()

    def wake(self) -> None:
        """Credit or log bytes have changed: look again."""
        self._wake.set()

    def close(self, parting: Parting | None = None) -> None:
        """Nothing more is given out; `take` answers None. The first parting stays."""
        if self.parting is None:
            self.parting = parting
        self._closed = True
        self._wake.set()

    async def take(self) -> RunnerMessage | LogTurn | None:
        """The next thing to send, control first; None once the outbox is closed."""
        while True:
            if self._closed:
                return None
            if self._control:
                message, weight = self._control.popleft()
                self._control_bytes -= weight
                return message
            turn = self.flow.next_turn(self._now_boot_ns())
            if turn is not None:
                return turn
            self._wake.clear()
            await self._wake.wait()

    def sent(self, key: AttemptKey, *, offset: int, end_offset: int) -> None:
        """A log chunk has left."""
        self.flow.sent(key, offset=offset, end_offset=end_offset)


def weight_bytes(message: RunnerMessage) -> int:
    """About how many bytes a control message holds."""
    match message:
        case AttemptExited():
            return _BASE_WEIGHT_BYTES + message.exit.weight_bytes
        case AttemptProgress():
            return _BASE_WEIGHT_BYTES + message.progress.weight_bytes
        case Hello():
            entries = message.inventory
        case Heartbeat():
            entries = message.held
        case _:
            return _BASE_WEIGHT_BYTES
    exits = sum(entry.exit.weight_bytes for entry in entries if entry.exit is not None)
    told = sum(entry.progress.weight_bytes for entry in entries if entry.progress is not None)
    return _BASE_WEIGHT_BYTES * (1 + len(entries)) + exits + told
