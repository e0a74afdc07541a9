"""A terminal for a test: a program runs with it as its controlling terminal, the test types and reads."""

from __future__ import annotations

import os
import pathlib
import pty
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Self

from tests.scenarios.children import PYTHON

TAKE_TERMINAL = (
    "import fcntl, os, sys, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n"
)


class Terminal:
    """Ended with its program when the block is left."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: pathlib.Path) -> None:
        self._master, side = pty.openpty()
        self.seen = b""
        try:
            self._process = subprocess.Popen(
                [*PYTHON, TAKE_TERMINAL, *argv], stdin=side, stdout=side, stderr=side, env=dict(env), cwd=cwd
            )
        finally:
            os.close(side)

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def _read(self, left_s: float) -> bool:
        """Take what it printed; False when the program has closed the terminal."""
        if not select.select([self._master], [], [], max(0.0, left_s))[0]:
            raise TimeoutError(f"the program printed only {self.seen!r}")
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # EIO: nobody has the other side any more
            return False
        self.seen += data
        return bool(data)

    def expect(self, text: bytes, timeout_s: float = 30.0) -> None:
        """Read until it printed this."""
        end = time.monotonic() + timeout_s
        while text not in self.seen:
            assert self._read(end - time.monotonic()), f"the program ended without {text!r}: {self.seen!r}"

    def finish(self, timeout_s: float = 60.0) -> int:
        """Read to the end; the exit status."""
        end = time.monotonic() + timeout_s
        while self._read(end - time.monotonic()):
            pass
        return self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        os.close(self._master)
