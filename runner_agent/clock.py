"""The only place that reads clocks: CLOCK_BOOTTIME for deadlines (it counts suspend), wall time for people."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the agent asks of time."""

    def boottime_ns(self) -> int:
        """Nanoseconds since boot, suspend included."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, by the host's wall clock."""


class SystemClock:
    """The host's own clocks."""

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def wall_ns(self) -> int:
        """CLOCK_REALTIME."""
        return time.time_ns()
