"""The measurements, one file per subject; the order here is the order of the table."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from tests.bench.registry import REGISTERED, Measurement

MODULES = (
    "rest",
    "dispatch",
    "cancels",
    "throughput",
    # Behind what counts the server's time: it compresses them for a while afterwards.
    "logs",
    "watchers",
    "reads",
    "idle",
    "shims",
    "hosts",
    "history",
    "timed",
)


def load() -> Mapping[str, Measurement]:
    """All measurements by their names."""
    for module in MODULES:
        importlib.import_module(f"{__name__}.{module}")
    return REGISTERED
