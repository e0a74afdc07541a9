"""What the measured runs execute, and how they tell when they did it."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import sys
import time

PYTHON = (sys.executable, "-I", "-S", "-c")
BASH = shutil.which("bash")


def percentile(values: list[float], share: float) -> float:
    """The value at this share of the ordered values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


class Stamps:
    """A fifo into which children write. Without `hold`, the death of its last writer can be seen."""

    def __init__(self, path: pathlib.Path, *, hold: bool) -> None:
        self.path = path
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

    async def stamp(self) -> float:
        """The next line as a wall clock time; some locales write it with a comma."""
        return float((await self.line()).replace(",", "."))

    async def hangup(self) -> float:
        """When the last process that held the fifo was gone (wall clock)."""
        while True:
            await self._readable()
            now = time.time()
            if not os.read(self._fd, 65_536):
                return now

    def open_gate(self) -> None:
        """Let a child go on that waits for a line; only with `hold`."""
        os.write(self._fd, b"\n")

    def close(self) -> None:
        os.close(self._fd)
        self.path.unlink()


def stamping(path: pathlib.Path) -> list[str]:
    """A child whose first instruction writes the wall clock into path."""
    if BASH:
        return [BASH, "--norc", "-c", 'echo "$EPOCHREALTIME" > "$1"', "bash", str(path)]
    return [*PYTHON, "import sys, time; t = time.time(); open(sys.argv[1], 'w').write(f'{t:.6f}\\n')", str(path)]


def holding(path: pathlib.Path) -> list[str]:
    """A child that says that it is there, holds path open, and ends at SIGTERM."""
    return ["/bin/sh", "-c", 'exec 3>"$1"; echo here >&3; exec sleep 1000', "sh", str(path)]


def obeying(path: pathlib.Path) -> list[str]:
    """A child that writes into path: that it is there, and the wall clock when SIGTERM came; then it ends."""
    code = (
        "import os, signal, sys, time\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "os.write(fd, b'here\\n')\n"
        "signal.sigwait({signal.SIGTERM})\n"
        "os.write(fd, b'%.6f\\n' % time.time())\n"
    )
    return [*PYTHON, code, str(path)]


# argv: bytes to print, bytes a second (0: as many as go). Lines of 100 bytes as programs write them; where the first
# of the bench's secrets is given, one line in 600 holds it.
PRINTER = """
import os, sys, time
size, speed = int(sys.argv[1]), int(sys.argv[2])
text = "2026-11-21T12:%02d:%02d.%03dZ INFO step=compile file=src/unit_%04d/part_%04d.c cache=miss took=0.%03ds ok"
lines = [(text % (n % 60, n % 59, n, n, n * 7 % 997, n * 3)).encode().ljust(99, b".")[:99] + b"\\n" for n in range(600)]
secret = os.environ.get("BENCH_0", "").encode()
if secret:
    lines[300] = (b"using " + secret + b" ").ljust(99, b".")[:99] + b"\\n"
block = b"".join(lines)
begin, left = time.monotonic(), size
while left:
    if speed:
        ahead = (size - left) / speed - (time.monotonic() - begin)
        if ahead > 0:
            time.sleep(ahead)
    piece = block[:left]
    while piece:
        written = os.write(1, piece)
        piece, left = piece[written:], left - written
"""

# argv: how many, seconds between, gate. Lines that begin with the wall clock: one at once, the others from when a line
# comes through the gate.
TICKER = """
import os, sys, time
os.write(1, b"%.6f first\\n" % time.time())
with open(sys.argv[3], "rb", 0) as gate:
    gate.readline()
begin = time.monotonic()
for n in range(int(sys.argv[1])):
    time.sleep(max(0.0, begin + n * float(sys.argv[2]) - time.monotonic()))
    os.write(1, b"%.6f tick\\n" % time.time())
"""


def printing(size: int, *, bytes_per_s: int = 0) -> list[str]:
    """A child that prints size bytes of 100-byte lines, as fast as it can or so many a second."""
    return [*PYTHON, PRINTER, str(size), str(bytes_per_s)]


def ticking(times: int, period_s: float, gate: pathlib.Path) -> list[str]:
    """A child that prints the wall clock once, and so many times from when the gate was opened."""
    return [*PYTHON, TICKER, str(times), str(period_s), str(gate)]
