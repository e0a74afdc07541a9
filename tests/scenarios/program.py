"""A program of ours as a real process: started in a session of its own, ended by its pid, its words kept in a file."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.waiting import wait_for

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def environment(root: pathlib.Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What our programs get: nothing of the caller's settings, a home and state under root."""
    return {
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "HOME": str(root),
        "XDG_STATE_HOME": str(root / "state"),
        "XDG_CONFIG_HOME": str(root / "config"),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Our programs are those of this tree, wherever another one is installed.
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen'}",
        **(extra or {}),
    }


class Program:
    """One program that can be started again and again with the same arguments."""

    def __init__(
        self, name: str, argv: Sequence[str], root: pathlib.Path, extra: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.output = root / f"{name}.out"
        self._root = root
        self._environment = environment(root, extra)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.running, f"{self.name} runs already"
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._root,
                env=self._environment,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill_dash_nine(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(10)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit status once it has ended."""
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout_s:g} s:\n{self.said()}") from None

    def stop(self, timeout_s: float = 30.0) -> int:
        self.send(signal.SIGTERM)
        return self.wait(timeout_s)

    def said(self, last_bytes: int = 6000) -> str:
        if not self.output.exists():
            return ""
        return self.output.read_bytes()[-last_bytes:].decode(errors="replace")

    def expect_running(self) -> None:
        if not self.running:
            raise AssertionError(f"{self.name} ended by itself:\n{self.said()}")


def touching(root: pathlib.Path) -> list[int]:
    """Processes (zombies aside) that work in root, or name it in their arguments or environment."""
    found = []
    mark = os.fsencode(root)
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if entry.joinpath("stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                continue
            words = entry.joinpath("cmdline").read_bytes() + entry.joinpath("environ").read_bytes()
            if mark in words or os.fsencode(os.readlink(entry / "cwd")).startswith(mark):
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue  # it ended while we looked, or it is another user's
    return found


def end_all(root: pathlib.Path) -> None:
    """Kill, by pid, whatever still touches root (shims and children outlive their agent on purpose)."""

    def none_left() -> bool:
        left = touching(root)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left

    wait_for(none_left, what=f"no process touches {root}", timeout_s=15)


def peak_mib(pid: int) -> float:
    """Peak resident memory of a process."""
    found = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024
