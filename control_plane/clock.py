"""Time, ids and randomness, injected: the only file of the control plane that asks the machine for them."""

import os
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

# Ids go on from the last one when the wall clock is set back, but not for longer than this: lists look for what was
# made before some time among the ids of a day more.
MOST_AHEAD_MS: Final = 12 * 3_600_000


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that no one can set; the base is arbitrary."""
        ...

    def new_id(self) -> str:
        """A UUIDv7; later calls of one process sort behind earlier ones, unless the clock is set back by half a day."""
        ...

    def token_bytes(self, size: int) -> bytes:
        """Bytes that nobody can guess."""
        ...

    def jitter(self) -> float:
        """A number in [0, 1)."""
        ...


def uuid7(unix_ms: int, sequence: int, random_bits: int) -> str:
    """RFC 9562 version 7: 48 bits of milliseconds, 12 bits of sequence, 62 random bits."""
    value = (unix_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= (sequence & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random_bits & ((1 << 62) - 1)
    return str(UUID(int=value))


class SystemClock:
    """The machine's own clocks. Safe to use from several threads."""

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._lock = threading.Lock()
        self._last_ms = 0
        self._sequence = 0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()

    def new_id(self) -> str:
        with self._lock:
            unix_ms = self._wall_ns() // 1_000_000
            if unix_ms > self._last_ms or unix_ms < self._last_ms - MOST_AHEAD_MS:
                self._last_ms, self._sequence = unix_ms, 0
            else:  # the same millisecond, or the wall clock was set back: go on from the last one
                self._sequence += 1
                if self._sequence > 0xFFF:
                    self._last_ms, self._sequence = self._last_ms + 1, 0
            return uuid7(self._last_ms, self._sequence, int.from_bytes(os.urandom(8), "big"))

    def token_bytes(self, size: int) -> bytes:
        return os.urandom(size)

    def jitter(self) -> float:
        return random.random()
