"""What processes use, as the kernel counts it: CPU time and peak resident memory."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Cost:
    """By the process's label."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)


class Meter:
    """The processes under these labels. Their children count once they have been waited for."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)

    @contextmanager
    def measuring(self) -> Iterator[Cost]:
        cost, before = Cost(), {label: cpu_s(pid) for label, pid in self._pids.items()}
        for pid in self._pids.values():
            forget_peak(pid)
        yield cost
        for label, pid in self._pids.items():
            cost.cpu_s[label] = cpu_s(pid) - before[label]
            cost.peak_mib[label] = memory_mib(pid, "VmHWM")


def cpu_s(pid: int) -> float:
    """User and system time of a process and of its children that it has waited for."""
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / TICKS


def memory_mib(pid: int, name: str) -> float:
    """A line of /proc/PID/status that is in kB: VmRSS is now, VmHWM the most."""
    found = re.search(rf"{name}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def forget_peak(pid: int) -> None:
    """From here on VmHWM is the most since now."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def children(pid: int) -> list[int]:
    """The live children of all its threads."""
    found: list[int] = []
    for listed in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, listed.read_text().split())
    return found
