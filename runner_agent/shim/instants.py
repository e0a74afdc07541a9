"""Now, on the clocks that a shim goes by."""

from __future__ import annotations

import time

from runner_agent.shim.states import Instant


def now() -> Instant:
    """On both clocks."""
    return Instant(boottime_ns=boottime_ns(), wall_ns=time.time_ns())


def boottime_ns() -> int:
    """CLOCK_BOOTTIME: goes on while the host is suspended, and never jumps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
