"""Killing what is left of a step, round by round, until the kernel says that nothing is."""

from __future__ import annotations

import os

from runner_agent.shim import files, tree
from runner_agent.shim.cgroup import Cgroup
from runner_agent.shim.states import NS, TreeCleared

GIVE_UP_S = 30.0
REFUSED_GIVE_UP_S = 5.0


class Clearing:
    """A kill under way. Reap before and after each round."""

    def __init__(self, began_ns: int, cgroup: Cgroup | None, cookie: str) -> None:
        self._began_ns = began_ns
        self._cgroup = cgroup
        self._cookie = cookie
        self._casualties = tree.Casualties()
        self._rounds = 0

    @property
    def pause_s(self) -> float:
        """How long to wait for ends before the next round."""
        return min(0.05, 0.001 * 2.0 ** min(self._rounds, 6))

    def round(self) -> None:
        """Kill what is there: first by the cgroup, where there is one, then by walking the tree."""
        if not tree.has_children():
            return
        self._rounds += 1
        if self._cgroup is not None and self._rounds == 1:
            members = {(pid, files.start_time(pid) or 0) for pid in self._cgroup.members()}
            if self._cgroup.kill():
                self._casualties.killed |= members
                return
        tree.kill_round(os.getpid(), self._casualties)

    def outcome(self, now_ns: int) -> TreeCleared | None:
        """None while there is hope; then how many were killed, and whether the kernel says that none is left."""
        empty = not tree.has_children()
        elapsed_s = (now_ns - self._began_ns) / NS
        refused = self._casualties.refused and elapsed_s > REFUSED_GIVE_UP_S
        if not empty and not refused and elapsed_s < GIVE_UP_S:
            return None
        if self._casualties.killed:
            # Not below us, but marked as this attempt's: what a daemon was asked to start with our environment.
            tree.kill_cookie_holders(self._cookie, self._casualties)
        return TreeCleared(killed=len(self._casualties.killed), empty=empty)
