"""What dead shims leave below a fork server: it is killed, and their run directories are told when nothing is left."""

from __future__ import annotations

import os
from collections.abc import Collection

from runner_agent.shim import cgroups, files, tree
from runner_agent.shim.attempt_files import RUNS
from runner_agent.shim.codec import JsonObject
from runner_agent.shim.records import dataclass


@dataclass(slots=True)
class _DeadShim:
    """A shim that ended without finishing: its orphans are being killed. A spare one has no name yet."""

    name: str
    shim_pid: int
    killed: int = 0


class Orphans:
    """Children of the fork server that are no shims of its own. `shims` always names the live ones."""

    def __init__(self, shims: Collection[int], *, use_cgroups: bool) -> None:
        self._shims = shims
        self._use_cgroups = use_cgroups
        self._dead: list[_DeadShim] = []

    @property
    def are_dealt_with(self) -> bool:
        """Whether no dead shim still waits for its witness."""
        return not self._dead

    def left_by(self, name: str, shim_pid: int) -> None:
        """A shim has died before its time."""
        self._dead.append(_DeadShim(name, shim_pid))

    def tend(self) -> None:
        """Kill what dead shims have left; say so in their directories when nothing of it is left. Reap before."""
        if not self.pids():
            self._bear_witness()
            return
        casualties = tree.Casualties()
        tree.kill_round(os.getpid(), casualties, spared=frozenset(self._shims))
        if not self._dead:
            self._dead.append(_DeadShim("", 0))  # a shim gave up on them: keep looking until they are gone
        for dead in self._dead:
            dead.killed += len(casualties.killed)

    def pids(self) -> list[int]:
        """Children that are no live shim.

        ECHILD would be the kernel's word that nothing is left, but live shims are children too. This list is as good
        a word: when a process dies, the kernel gives its children to us before our wait can see its end, and only our
        own wait takes one off our list. So what a dead shim leaves is never off it, between any two reads, until we
        have waited for the last of it; one that we may not kill (another user's) stays on it, and nothing is proven.
        So, too, nobody can come onto it but by the end of a child of ours: without one there is nothing to look for.
        """
        return [pid for pid in tree.children(os.getpid()) if pid not in self._shims]

    def _list_is_ours(self) -> bool:
        """Whether /proc shows this process's own children: all that we have not waited for, and none is ECHILD."""
        listed = tree.children(os.getpid())
        return all(pid in listed for pid in self._shims) and (bool(self._shims) or not tree.has_children())

    def _bear_witness(self) -> None:
        if not self._dead:
            return
        if self._use_cgroups:
            cgroups.remove_left_behind()
        proven = self._list_is_ours()
        for dead in self._dead:
            if not dead.name:
                continue
            body: JsonObject = {"version": 1, "shim_pid": dead.shim_pid, "tree_empty": proven, "killed": dead.killed}
            try:
                files.write_once(os.path.join(RUNS, dead.name), "swept", files.encode_json(body))
            except FileNotFoundError:
                continue  # released meanwhile: nobody asks any more
            except OSError as error:
                os.write(2, f"fork server: {dead.name}: {error}\n".encode())
        self._dead = []
