"""Durations as people write them: 90s, 5m, 1h30m, 2d."""

from __future__ import annotations

import re
from decimal import Decimal

UNITS_S = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
# What a google.protobuf.Duration holds.
LARGEST_S = 315_576_000_000


def parse_duration(text: str) -> float:
    """Seconds; a bare number means seconds. Raises ValueError with a sentence."""
    cleaned = text.strip().lower()
    if NUMBER.fullmatch(cleaned):
        total = Decimal(cleaned)
    else:
        parts = PART.findall(cleaned)
        if not parts or "".join(number + unit for number, unit in parts) != cleaned:
            raise ValueError(f"{text!r} is not a duration; write 90s, 5m, 1h30m or 2d")
        total = sum((Decimal(number) * UNITS_S[unit] for number, unit in parts), Decimal(0))
    if total > LARGEST_S:
        raise ValueError(f"{text!r} is longer than any duration may be")
    return float(total)


def written_duration(duration_s: float) -> str:
    """As it is given on a command line, without a loss: 90s -> 1m30s, 86400 -> 1d, 0.25 -> 250ms."""
    left_ms = round(duration_s * 1000)
    text = ""
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left_ms = divmod(left_ms, size_ms)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def format_duration(duration_s: float) -> str:
    """At most two units: 0.4 s, 12.4 s, 3m 12s, 2h 5m, 3d 4h."""
    if duration_s < 60:
        return f"{duration_s:.1f} s" if duration_s >= 0.1 else f"{duration_s * 1000:.0f} ms"
    whole = int(duration_s)
    for size, name, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size}{name} {rest}{small}" if rest else f"{whole // size}{name}"
    return f"{whole} s"
