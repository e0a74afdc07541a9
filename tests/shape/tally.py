"""Counts by name over several processes: lines in one file, appended as they happen, with the time.

Standard library only, for it also lives in the processes above the runs.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time
from collections import Counter

FILE = "TALLY_FILE"


def count(name: str, amount: int = 1) -> None:
    """Add to a name's number."""
    # The file is opened each time: a shim closes what it has inherited.
    descriptor = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{name} {amount} {time.time_ns()}\n".encode())
    finally:
        os.close(descriptor)


def count_syncs(who: str) -> None:
    """From here on this process and its forks count each sync as `who.sync`, and as `who.sync FILE:FUNCTION`."""
    for name in ("fsync", "fdatasync"):
        _count_calls(name, who)


def _count_calls(name: str, who: str) -> None:
    original = getattr(os, name)

    def counted(descriptor: int) -> None:
        caller = sys._getframe(1)
        count(f"{who}.sync")
        count(f"{who}.sync {pathlib.Path(caller.f_code.co_filename).name}:{caller.f_code.co_name}")
        original(descriptor)

    setattr(os, name, counted)


class Tally:
    """The test's side of it."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        path.touch()

    def environment(self) -> dict[str, str]:
        return {FILE: str(self._path)}

    def now(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for line in self._path.read_text().splitlines():
            name, amount, _ = line.rsplit(" ", 2)
            found[name] += int(amount)
        return found

    def course(self, begin_ns: int) -> list[tuple[int, str]]:
        """What was counted since then, with its time, in order."""
        lines = (line.rsplit(" ", 2) for line in self._path.read_text().splitlines())
        return sorted((int(at), name) for name, _, at in lines if int(at) >= begin_ns)
