"""A clock that stands still until a test moves it."""

import random
from datetime import UTC, datetime, timedelta

from control_plane.clock import uuid7


class FakeClock:
    """Wall and monotonic time move together by `advance`; `step_wall` moves the wall alone."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC), seed: int = 1) -> None:
        self._now = start
        self._monotonic_s = 1_000.0
        self._ids = 0
        self._random = random.Random(seed)

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def new_id(self) -> str:
        self._ids += 1
        milliseconds = int(self._now.timestamp() * 1000) + self._ids // 0x1000
        return uuid7(milliseconds, self._ids % 0x1000, self._random.getrandbits(62))

    def token_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def jitter(self) -> float:
        return self._random.random()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def step_wall(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
