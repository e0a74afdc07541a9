"""A cgroup of the version 1 freezer per attempt, for hosts without `cgroup.kill`: freeze, kill, thaw.

What is frozen cannot fork, so that one pass over the list of its processes reaches them all. That the kernel lets the
cgroup be removed proves that it is empty, as in version 2.
"""

from __future__ import annotations

import errno
import os
import signal
import time

from runner_agent.shim.cgroup import Cgroup

FREEZE_S = 0.5
_PAUSE_S = 0.001


class FreezerCgroup(Cgroup):
    """One attempt's cgroup in the freezer hierarchy."""

    @classmethod
    def create_in(cls, parent: str, name: str) -> Cgroup | None:
        """A new cgroup below `parent`; None if we have no right to it or it cannot freeze."""
        return cls._made(parent, name, "freezer.state")

    def fork(self) -> int:
        """Nothing is born into a cgroup of version 1: fork and `add`."""
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def kill(self) -> bool:
        """SIGKILL for every process in it and below; False if they could not all be frozen before."""
        if not self._write("freezer.state", "FROZEN"):
            return False
        try:
            frozen = self._await_frozen()
            for pid in self.members():
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    frozen = False  # it has gone meanwhile, or is another user's: the walk and the proof decide
        finally:
            self._write("freezer.state", "THAWED")
        return frozen

    def members(self) -> list[int]:
        """The processes in it and in what they made below it."""
        found: list[int] = []
        for directory, _, _ in os.walk(self.path):
            below = "" if directory == self.path else os.path.relpath(directory, self.path)
            found += [int(line) for line in (self._read(os.path.join(below, "cgroup.procs")) or "").split()]
        return found

    def populated(self) -> bool | None:
        """Whether a process is in it or below it; None if it cannot be read."""
        return None if self._read("cgroup.procs") is None else bool(self.members())

    def remove(self) -> bool:
        """Remove it and what the run made below it; False while something is in it."""
        for directory, _, _ in os.walk(self.path, topdown=False):
            if directory != self.path and not Cgroup(directory).remove():
                return False
        return super().remove()

    def _await_frozen(self) -> bool:
        deadline = time.monotonic() + FREEZE_S
        while (self._read("freezer.state") or "").strip() != "FROZEN":
            if time.monotonic() >= deadline:
                return False
            signal.sigtimedwait((), _PAUSE_S)
            self._write("freezer.state", "FROZEN")  # one that was forked meanwhile may have escaped the first
        return True
