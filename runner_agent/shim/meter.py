"""What an attempt has used: by its cgroups where there are any, else by what was waited for."""

from __future__ import annotations

from runner_agent.shim.cgroup import Cgroup
from runner_agent.shim.messages import Usage
from runner_agent.shim.tree import Reaped

_CGROUP, _WAIT4 = "cgroup", "wait4"


class Meter:
    """Adds up over the steps. A figure is the cgroups' only if those of all steps say it."""

    def __init__(self) -> None:
        self._waited = (0.0, 0.0)
        self._waited_moved = (0, 0)
        self._largest_bytes = 0
        self._cpu: tuple[float, float] | None = (0.0, 0.0)
        self._peak_bytes: int | None = 0
        self._moved: tuple[int, int] | None = (0, 0)

    def add_child(self, child: Reaped) -> None:
        """A child was reaped; its figures include the children that it waited for itself."""
        self._waited = (self._waited[0] + child.user_s, self._waited[1] + child.system_s)
        self._waited_moved = (
            self._waited_moved[0] + child.read_bytes,
            self._waited_moved[1] + child.written_bytes,
        )
        self._largest_bytes = max(self._largest_bytes, child.max_rss_bytes)

    def add_step(self, cgroup: Cgroup | None) -> None:
        """A step is over; its cgroup, if it had one, knows what all of it has used."""
        cpu = None if cgroup is None else cgroup.cpu_seconds()
        peak_bytes = None if cgroup is None else cgroup.peak_bytes()
        moved = None if cgroup is None else cgroup.moved_bytes()
        self._cpu = None if cpu is None or self._cpu is None else (self._cpu[0] + cpu[0], self._cpu[1] + cpu[1])
        both = peak_bytes is not None and self._peak_bytes is not None
        self._peak_bytes = max(self._peak_bytes or 0, peak_bytes or 0) if both else None
        known = moved is not None and self._moved is not None
        self._moved = _sum(self._moved, moved) if known else None

    def usage(self) -> Usage:
        """Each figure by the better source that covers all steps."""
        user_s, system_s = self._waited if self._cpu is None else self._cpu
        read_bytes, written_bytes = self._waited_moved if self._moved is None else self._moved
        return Usage(
            source=_WAIT4 if self._cpu is None else _CGROUP,
            cpu_user_s=user_s,
            cpu_system_s=system_s,
            max_rss_bytes=self._largest_bytes if self._peak_bytes is None else self._peak_bytes,
            max_rss_source=_WAIT4 if self._peak_bytes is None else _CGROUP,
            read_bytes=read_bytes,
            written_bytes=written_bytes,
            io_source=_WAIT4 if self._moved is None else _CGROUP,
        )


def _sum(one: tuple[int, int] | None, other: tuple[int, int] | None) -> tuple[int, int]:
    (read, written), (more_read, more_written) = one or (0, 0), other or (0, 0)
    return read + more_read, written + more_written
