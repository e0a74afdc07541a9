"""The figures: how each is measured on a system. One call is one repetition."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.systems import System

PYTHON = (sys.executable, "-I", "-S", "-c")
BASH = shutil.which("bash")
LINE = b"x" * 99 + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is done per repetition."""

    repetitions: int
    dispatches: int
    runs: int
    log_bytes: int
    cancels: int


QUICK = Effort(repetitions=3, dispatches=60, runs=200, log_bytes=20_000_000, cancels=15)
FULL = Effort(repetitions=3, dispatches=300, runs=2000, log_bytes=100_000_000, cancels=60)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


class Stamps:
    """A fifo into which children write. Without `hold`, the death of its last writer can be seen."""

    def __init__(self, directory: pathlib.Path, *, hold: bool) -> None:
        self.path = directory / "stamps"
        os.mkfifo(self.path)
        self._fd = os.open(self.path, (os.O_RDWR if hold else os.O_RDONLY) | os.O_NONBLOCK)
        self._read = b""

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), 60)
        finally:
            loop.remove_reader(self._fd)

    async def line(self) -> str:
        """The next line that a child wrote."""
        while b"\n" not in self._read:
            await self._readable()
            self._read += os.read(self._fd, 65_536)
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    async def hangup(self) -> float:
        """When the last process that held the fifo was gone (wall clock)."""
        while True:
            await self._readable()
            now = time.time()
            if not os.read(self._fd, 65_536):
                return now

    def close(self) -> None:
        os.close(self._fd)


def stamping(path: pathlib.Path) -> list[str]:
    """A child whose first instruction writes the wall clock into path."""
    if BASH:
        return [BASH, "--norc", "-c", 'echo "$EPOCHREALTIME" > "$1"', "bash", str(path)]
    return [*PYTHON, "import sys, time; t = time.time(); open(sys.argv[1], 'w').write(f'{t:.6f}\\n')", str(path)]


def holding(path: pathlib.Path) -> list[str]:
    """A child that says that it is there, holds path open, and ends at SIGTERM."""
    return ["/bin/sh", "-c", 'exec 3>"$1"; echo here >&3; exec sleep 1000', "sh", str(path)]


def printing(size: int) -> list[str]:
    """A child that prints size bytes of 100-byte lines as fast as it can."""
    code = (
        "import os, sys\nblock = (b'x' * 99 + b'\\n') * 600\nleft = int(sys.argv[1])\n"
        "while left:\n    left -= os.write(1, block[:left] if left < len(block) else block)\n"
    )
    return [*PYTHON, code, str(size)]


async def dispatch(system: System, effort: Effort, directory: pathlib.Path) -> dict[str, float]:
    """One after another: from the call to the child's first instruction."""
    stamps, waits = Stamps(directory, hold=True), []
    for _ in range(effort.dispatches):
        begin = time.time()
        run = await system.submit(stamping(stamps.path))
        waits.append((float((await stamps.line()).replace(",", ".")) - begin) * 1000)
        await system.wait(run)
    stamps.close()
    return {"dispatch p50": statistics.median(waits), "dispatch p99": percentile(waits, 0.99)}


async def throughput(system: System, effort: Effort, directory: pathlib.Path) -> dict[str, float]:
    """32 clients submit no-op runs while the runner is paused; then it takes them 8 at a time."""
    await system.pause()
    left: Iterator[int] = iter(range(effort.runs))

    async def client() -> None:
        for _ in left:
            await system.submit(["/bin/true"])

    begin = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(32):
            tasks.create_task(client(), name=f"client-{number}")
    middle = time.monotonic()
    await system.resume()
    await system.idle()
    end = time.monotonic()
    return {"submits": effort.runs / (middle - begin), "runs": effort.runs / (end - middle)}


async def log(system: System, effort: Effort, directory: pathlib.Path) -> dict[str, float]:
    """From the call until all bytes are stored durably."""
    begin = time.monotonic()
    stored = await system.wait(await system.submit(printing(effort.log_bytes)))
    took_s = time.monotonic() - begin
    assert stored == effort.log_bytes, f"{stored} of {effort.log_bytes} bytes were stored"
    return {"log": effort.log_bytes / 1e6 / took_s}


async def cancel(system: System, effort: Effort, directory: pathlib.Path) -> dict[str, float]:
    """One after another: from the call to the death of a child that obeys SIGTERM."""
    waits = []
    for _ in range(effort.cancels):
        stamps = Stamps(directory, hold=False)
        run = await system.submit(holding(stamps.path))
        await stamps.line()
        begin = time.time()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(system.cancel(run), name="cancel")
            waits.append((await stamps.hangup() - begin) * 1000)
        await system.wait(run)
        stamps.close()
        stamps.path.unlink()
    return {"cancel p50": statistics.median(waits), "cancel p99": percentile(waits, 0.99)}
