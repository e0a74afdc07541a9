"""What the machine gives at this moment: without it no figure means anything."""

from __future__ import annotations

import os
import pathlib
import platform
import statistics
import subprocess
import time


def calibrate(directory: pathlib.Path) -> dict[str, float]:
    """Speed of one core, cost of a sync and of a process, and who else is busy."""
    return {
        "python loop, Mops/s": _loop(),
        "fdatasync of 4 KiB, ms": _sync(directory),
        "spawn and wait of /bin/true, ms": _spawn(),
        "load average, 1 min": os.getloadavg()[0],
    }


def describe() -> dict[str, str]:
    model = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _loop() -> float:
    speeds = []
    for _ in range(5):
        begin, total = time.perf_counter(), 0
        for number in range(500_000):
            total += number & 7
        speeds.append(0.5 / (time.perf_counter() - begin))
    return statistics.median(speeds)


def _sync(directory: pathlib.Path) -> float:
    path, waits = directory / "sync", []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    for _ in range(100):
        os.write(fd, b"x" * 4096)
        begin = time.perf_counter()
        os.fdatasync(fd)
        waits.append((time.perf_counter() - begin) * 1000)
    os.close(fd)
    path.unlink()
    return statistics.median(waits)


def _spawn() -> float:
    waits = []
    for _ in range(50):
        begin = time.perf_counter()
        subprocess.run(["/bin/true"], check=True)
        waits.append((time.perf_counter() - begin) * 1000)
    return statistics.median(waits)
