"""How long to wait before the next try to connect: full jitter, for ever."""

from __future__ import annotations

FIRST_S = 0.5
CAP_S = 20.0
STEADY_S = 60.0


def delay_s(failures: int, fraction: float) -> float:
    """A wait in [0, min(20 s, 0.5 s * 2**failures)); `fraction` is a random number in [0, 1)."""
    return fraction * min(CAP_S, FIRST_S * 2.0 ** min(failures, 30))
