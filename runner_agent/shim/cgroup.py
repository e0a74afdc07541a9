"""A cgroup (version 2) per attempt, where the host lets us: kills the whole tree at once and says when it is empty."""

from __future__ import annotations

import errno
import os

from runner_agent.shim.files import read_kernel, write_kernel
from runner_agent.shim.linux import fork_into_cgroup


class Cgroup:
    """One attempt's cgroup. Its methods raise OSError only where they say so."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def create_in(cls, parent: str, name: str) -> Cgroup | None:
        """A new cgroup below `parent`; None if we have no right to it or there is no `cgroup.kill`."""
        return cls._made(parent, name, "cgroup.kill")

    @classmethod
    def _made(cls, parent: str, name: str, needed: str) -> Cgroup | None:
        made = cls(f"{parent}/{name}")
        try:
            os.mkdir(made.path, 0o755)
        except FileExistsError:
            if made.populated() is not False:
                return None
        except OSError:
            return None
        if not os.access(f"{made.path}/{needed}", os.F_OK):
            made.remove()
            return None
        return made

    def fork(self) -> int:
        """Like os.fork, with the child in this cgroup from the start. Raises OSError; then fork and `add`."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return fork_into_cgroup(directory)
        finally:
            os.close(directory)

    def add(self, pid: int) -> bool:
        """Move a process in; False if that is not allowed."""
        return self._write("cgroup.procs", str(pid))

    def kill(self) -> bool:
        """SIGKILL for every process in it, forks under way included; False if that is not allowed."""
        return self._write("cgroup.kill", "1")

    def members(self) -> list[int]:
        """The processes in it (zombies are not listed)."""
        return [int(line) for line in (self._read("cgroup.procs") or "").split()]

    def populated(self) -> bool | None:
        """Whether a live process is in it or below it, by the kernel's word; None if it cannot be read."""
        for line in (self._read("cgroup.events") or "").splitlines():
            if line.startswith("populated "):
                return line != "populated 0"
        return None

    def cpu_seconds(self) -> tuple[float, float] | None:
        """(user, system) of everything that ever ran in it; None if the kernel does not say."""
        figures = dict(line.split(" ", 1) for line in (self._read("cpu.stat") or "").splitlines() if " " in line)
        if "user_usec" not in figures or "system_usec" not in figures:
            return None
        return int(figures["user_usec"]) / 1e6, int(figures["system_usec"]) / 1e6

    def peak_bytes(self) -> int | None:
        """The most memory that all of it had at once; None where the memory controller is not ours."""
        text = (self._read("memory.peak") or "").strip()
        return int(text) if text.isdecimal() else None

    def moved_bytes(self) -> tuple[int, int] | None:
        """(read, written) of block devices; None where the io controller is not ours."""
        text = self._read("io.stat")
        if text is None:
            return None
        words = [word.partition("=") for line in text.splitlines() for word in line.split()[1:]]
        counts = {name: sum(int(value) for key, _, value in words if key == name) for name in ("rbytes", "wbytes")}
        return counts["rbytes"], counts["wbytes"]

    def oom_kills(self) -> int:
        """How many processes the kernel killed for want of memory; 0 also where the memory controller is not ours."""
        for line in (self._read("memory.events") or "").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def remove(self) -> bool:
        """Remove it; False while something is in it."""
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _write(self, name: str, text: str) -> bool:
        try:
            write_kernel(f"{self.path}/{name}", text)
        except OSError:
            return False
        return True

    def _read(self, name: str) -> str | None:
        try:
            return read_kernel(f"{self.path}/{name}").decode("ascii")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EACCES, errno.EPERM):
                raise
            return None
