"""What an attempt has used: by its cgroups where there are any, else by what was waited for."""

from __future__ import annotations

from runner_agent.shim.cgroup import Cgroup
from runner_agent.shim.messages import Usage
from runner_agent.shim.tree import Reaped


class Meter:
    """Adds up over the steps."""

    def __init__(self) -> None:
        self._waited = (0.0, 0.0)
        self._counted = (0.0, 0.0)
        self._max_rss_bytes = 0
        self._all_counted = True

    def add_child(self, child: Reaped) -> None:
        """A child was reaped; its figures include the children that it waited for itself."""
        self._waited = (self._waited[0] + child.user_s, self._waited[1] + child.system_s)
        self._max_rss_bytes = max(self._max_rss_bytes, child.max_rss_bytes)

    def add_step(self, cgroup: Cgroup | None) -> None:
        """A step is over; its cgroup, if it had one, knows what all of it has used."""
        figures = None if cgroup is None else cgroup.cpu_seconds()
        if figures is None:
            self._all_counted = False
        else:
            self._counted = (self._counted[0] + figures[0], self._counted[1] + figures[1])

    def usage(self) -> Usage:
        """The sum, by the better source that covers all steps."""
        user_s, system_s = self._counted if self._all_counted else self._waited
        return Usage(
            source="cgroup" if self._all_counted else "wait4",
            cpu_user_s=user_s,
            cpu_system_s=system_s,
            max_rss_bytes=self._max_rss_bytes,
        )
