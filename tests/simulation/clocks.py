"""Clocks of the simulation: they run at slightly different rates, and the wall clocks are set now and then."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from control_plane.clock import uuid7
from tests.simulation.loop import SimLoop

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
EPOCH_NS = int(EPOCH.timestamp()) * 1_000_000_000
NS = 1_000_000_000


class HostClock:
    """CLOCK_BOOTTIME and the wall clock of one host; boot time goes on while processes are frozen."""

    def __init__(self, loop: SimLoop, rate: float) -> None:
        self._loop, self._rate = loop, rate
        self.wall_s = 0.0
        self._booted = loop.now - 1_000.0

    def boottime_ns(self) -> int:
        return int((self._loop.now - self._booted) * self._rate * NS)

    def wall_ns(self) -> int:
        return EPOCH_NS + int((self._loop.now + self.wall_s) * NS)

    def delay_s(self, until_boottime_ns: int) -> float:
        """How long until that instant, by the world's time; a little more, so that it has come then."""
        return max(0.0, (until_boottime_ns - self.boottime_ns()) / NS / self._rate) + 1e-5

    def reboot(self) -> None:
        self._booted = self._loop.now


class ServerClock:
    """The control plane's clock."""

    def __init__(self, loop: SimLoop, seed: int, rate: float) -> None:
        self._loop, self._rate = loop, rate
        self.wall_s = 0.0
        self._ids = 0
        self._random = random.Random(seed)

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.now + self.wall_s)

    def monotonic_s(self) -> float:
        return 1_000.0 + self._loop.now * self._rate

    def new_id(self) -> str:
        self._ids += 1
        return uuid7(EPOCH_NS // 1_000_000 + self._ids // 0x1000, self._ids % 0x1000, self._random.getrandbits(62))

    def token_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def jitter(self) -> float:
        return self._random.random()
