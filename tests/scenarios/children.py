"""What runs execute in the scenarios: small programs that synchronise by fifos and prove their life by locks."""

from __future__ import annotations

import fcntl
import os
import pathlib
import select
import sys
import time

PYTHON = (sys.executable, "-I", "-S", "-c")


def python(code: str, *arguments: str | os.PathLike[str]) -> list[str]:
    """argv of a child that executes code; sys.argv[1:] are the arguments."""
    return [*PYTHON, code, *(os.fspath(argument) for argument in arguments)]


class Fifo:
    """A named pipe between the test and a child; the test holds both ends, so that opening it never blocks anybody."""

    def __init__(self, path: pathlib.Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._read = b""

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def send(self, times: int = 1) -> None:
        """Let so many children that wait for a line go on."""
        os.write(self._fd, b"\n" * times)

    def receive(self, timeout_s: float = 30.0) -> str:
        """The next line that a child wrote."""
        end = time.monotonic() + timeout_s
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no child wrote to {self.path.name} within {timeout_s:g} s")
            self._read += os.read(self._fd, 65536)
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        os.close(self._fd)


def locked(path: pathlib.Path) -> bool:
    """Does any process hold the lock that the child took?"""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def lines(path: pathlib.Path) -> list[str]:
    """What children appended to path."""
    return path.read_text().splitlines() if path.exists() else []


# argv: tally, arrived, gate. Appends one line, says so, waits for the gate, prints before and after.
PAUSE = """
import os, sys
tally, arrived, gate = sys.argv[1:4]
fd = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(fd, b"%d\\n" % os.getpid())
os.write(1, b"before\\n")
with open(arrived, "wb", 0) as file:
    file.write(b"%d\\n" % os.getpid())
with open(gate, "rb", 0) as file:
    file.readline() or sys.exit(99)
os.write(1, b"after\\n")
sys.exit(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
"""

# argv: lock, arrived. Ignores SIGTERM, holds a lock, and leaves a double-forked child in another session that does too.
STUBBORN = """
import fcntl, os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
arrived = os.open(sys.argv[2], os.O_WRONLY)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(1); os.close(2)
        os.write(arrived, b"grandchild %d\\n" % os.getpid())
        while True:
            signal.pause()
    os._exit(0)
os.wait()
os.write(arrived, b"child %d\\n" % os.getpid())
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""

# argv: lock, arrived. Obeys SIGTERM; holds a lock.
PATIENT = """
import fcntl, os, signal, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(1, b"ready\\n")
with open(sys.argv[2], "wb", 0) as file:
    file.write(b"%d\\n" % os.getpid())
while True:
    signal.pause()
"""

# argv: seed, bytes, arrived, gate. Writes noise (NUL, invalid UTF-8) in pieces, half of it behind the gate.
NOISE = """
import os, random, sys
noise = random.Random(int(sys.argv[1])).randbytes(int(sys.argv[2]))
half = len(noise) // 2
def put(data):
    while data:
        data = data[os.write(1, data[:50_000]):]
put(noise[:half])
with open(sys.argv[3], "wb", 0) as file:
    file.write(b"%d\\n" % os.getpid())
with open(sys.argv[4], "rb", 0) as file:
    file.readline() or sys.exit(99)
put(noise[half:])
sys.exit(3)
"""

# argv: file of bytes to print, stdout in pieces of argv[2] bytes.
PRINT_FILE = """
import os, sys
data = open(sys.argv[1], "rb").read()
size = int(sys.argv[2])
for at in range(0, len(data), size):
    piece = data[at:at + size]
    while piece:
        piece = piece[os.write(1, piece):]
"""

# argv: tally, after how many tries it succeeds. Appends a line per try.
FLAKY = """
import os, sys
tally = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
os.write(tally, b"try\\n")
tries = len(os.pread(tally, 65536, 0).splitlines())
os.write(1, b"try %d\\n" % tries)
sys.exit(0 if tries >= int(sys.argv[2]) else 4)
"""
