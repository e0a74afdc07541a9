"""What the machine gives at this moment: without it no figure means anything.

Each part is one that the reference machine was measured by too, so that the floor's reference can be scaled to the
machine at hand (see floor_checks). The reference: 2 quiet virtual cores of an Intel Xeon, ext4 on a virtio disk,
Linux 6.18, CPython 3.11.7.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

LINE_PRINTER = (
    "import os, sys\nblock = (b'x' * 99 + b'\\n') * 600\nleft = int(sys.argv[1])\n"
    "while left:\n    left -= os.write(1, block[:left] if left < len(block) else block)\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The speed of the parts that a run is made of."""

    cpu_mb_per_s: float  # 100-byte lines through asyncio's `async for line`: Python's own work
    spawn_ms: float  # subprocess.run of `true`
    sync_ms: float  # fdatasync after 32 KiB were appended
    disk_mb_per_s: float  # 256 KiB appended and synced, again and again
    load: float  # the mean of the last minute's runnable processes

    def costs(self) -> dict[str, float]:
        """Each part as a cost: more is slower."""
        return {
            "cpu": 1 / self.cpu_mb_per_s,
            "spawn": self.spawn_ms,
            "sync": self.sync_ms,
            "disk": 1 / self.disk_mb_per_s,
        }

    def words(self) -> str:
        return (
            f"CPU {self.cpu_mb_per_s:.0f} MB/s of lines, "
            f"spawn {self.spawn_ms:.2f} ms, sync {self.sync_ms:.2f} ms, disk {self.disk_mb_per_s:.0f} MB/s, "
            f"load {self.load:.1f}"
        )


REFERENCE = Calibration(cpu_mb_per_s=144, spawn_ms=0.657, sync_ms=0.251, disk_mb_per_s=354, load=0.0)


def calibrate(directory: pathlib.Path) -> Calibration:
    """Takes about two seconds; each part is a median."""
    return Calibration(
        cpu_mb_per_s=statistics.median(asyncio.run(_lines(24_000_000)) for _ in range(3)),
        spawn_ms=_spawn(),
        sync_ms=statistics.median(_syncs(directory, 32_768, 100)),
        disk_mb_per_s=_disk(directory),
        load=os.getloadavg()[0],
    )


def describe() -> dict[str, str]:
    model = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cpu": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_gib:.1f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def noise(before: Calibration, after: Calibration) -> dict[str, float]:
    """By part: how much slower the slower of two calibrations is, as a share."""
    first, last = before.costs(), after.costs()
    return {part: max(first[part], last[part]) / min(first[part], last[part]) - 1 for part in first}


async def _lines(size: int) -> float:
    argv = (sys.executable, "-I", "-S", "-c", LINE_PRINTER, str(size))
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    begin = time.perf_counter()
    async for _ in process.stdout:
        pass
    took_s = time.perf_counter() - begin
    await process.wait()
    return size / 1e6 / took_s


def _spawn() -> float:
    waits = []
    for _ in range(100):
        begin = time.perf_counter()
        subprocess.run(["/bin/true"], check=True)
        waits.append((time.perf_counter() - begin) * 1000)
    return statistics.median(waits)


def _syncs(directory: pathlib.Path, size: int, times: int) -> list[float]:
    path, block, waits = directory / "sync", os.urandom(size), []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(times):
            begin = time.perf_counter()
            os.write(fd, block)
            os.fdatasync(fd)
            waits.append((time.perf_counter() - begin) * 1000)
    finally:
        os.close(fd)
        path.unlink()
    return waits


def _disk(directory: pathlib.Path) -> float:
    waits = _syncs(directory, 262_144, 200)
    return 262_144 * len(waits) / 1e6 / (sum(waits) / 1000)
