"""The real control plane with a wall clock that a test sets: `odd_server.py SETTINGS serve …`.

SETTINGS is a JSON file that is read at every look: {"wall_s": seconds to add}. Monotonic time is the machine's own, as
after a step of a real clock; the timer library is stepped along.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import datetime
import json
import pathlib
import sys
import time
import types

from apscheduler.executors import base as executors
from apscheduler.schedulers import base as schedulers
from apscheduler.triggers import date, interval

from control_plane import __main__ as program
from control_plane import clock

_TRUE = datetime.datetime


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _TRUE)


def main() -> int:
    """Bend the wall clock, and serve."""
    place = pathlib.Path(sys.argv.pop(1))

    def ahead_s() -> float:
        return float(json.loads(place.read_text()).get("wall_s") or 0)

    class Stepped(_TRUE, metaclass=_Kind):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return _TRUE.now(tz) + datetime.timedelta(seconds=ahead_s())

    def time_ns() -> int:
        return time.time_ns() + int(ahead_s() * 1e9)

    clock.SystemClock.now = lambda _: Stepped.now(datetime.UTC)  # type: ignore[method-assign]
    clock.time = types.SimpleNamespace(monotonic=time.monotonic, time_ns=time_ns)  # type: ignore[assignment]
    for module in (executors, schedulers, date, interval):
        module.datetime = Stepped
    return program.main()


if __name__ == "__main__":
    sys.exit(main())
