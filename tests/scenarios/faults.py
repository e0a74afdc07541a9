"""Faults for a house with one runner behind a proxy: who is killed, frozen or cut off, and how it is healed."""

from __future__ import annotations

import os
import pathlib
import random
import signal
from collections.abc import Callable

from tests.history.recorder import Recorder
from tests.scenarios.house import Agent, House
from tests.scenarios.program import touching
from tests.scenarios.proxy import Proxy

KINDS = ("agent", "server", "both", "shim", "fork_server", "freeze", "hold", "cut", "refuse", "again")


def lock_holder(path: pathlib.Path) -> int | None:
    """The process that took the flock on path."""
    if not path.exists():
        return None
    status = path.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in pathlib.Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5] == device:
            return int(fields[4])
    return None


class Faults:
    """Brings faults about. `between` is called while the fault lasts, before it is healed."""

    def __init__(
        self, house: House, agent: Agent, proxy: Proxy, chance: random.Random, recorder: Recorder | None = None
    ) -> None:
        self._house = house
        self._agent = agent
        self._proxy = proxy
        self._chance = chance
        self._recorder = recorder
        self.state = house.root / "r0"
        self.shims_killed: set[str] = set()

    def bring(self, kind: str, between: Callable[[], None]) -> None:
        """One fault of this kind, from beginning to end."""
        if kind != "shim":
            self._record(kind)
        match kind:
            case "agent" | "server" | "both":
                self._kill(kind, between)
            case "shim":
                self._kill_a_shim()
                between()
            case "fork_server":
                self._end(lock_holder(self.state / "fork.lock"))
                between()
            case "freeze":
                self._agent.send(signal.SIGSTOP)
                between()
                self._agent.send(signal.SIGCONT)
            case "hold" | "refuse":
                self._cut_off(self._proxy.hold if kind == "hold" else self._proxy.refuse, between)
            case "cut":
                self._proxy.cut()
                between()
                self._proxy.cut()
            case "again":
                for _ in range(3):
                    self._agent.kill_dash_nine()
                    self._agent.start()
                between()

    def _kill(self, who: str, between: Callable[[], None]) -> None:
        if who in ("agent", "both"):
            self._agent.kill_dash_nine()
        if who in ("server", "both"):
            self._house.server.kill_dash_nine()
        between()
        if who in ("server", "both"):
            self._house.start_server()
        if who in ("agent", "both"):
            self._agent.start()

    @staticmethod
    def _cut_off(switch: Callable[[bool], None], between: Callable[[], None]) -> None:
        switch(True)
        between()
        switch(False)

    def _kill_a_shim(self) -> None:
        """Of an attempt that is there now, if there is any; its run is remembered before the kill."""
        there = sorted(path for path in (self.state / "runs").iterdir() if path.name[0] not in ".q")
        if there:
            chosen = self._chance.choice(there)
            shim = lock_holder(chosen / "lock")
            if shim != self._agent.pid:
                self.shims_killed.add(chosen.name.rpartition(".")[0])
                self._record("shim", run=chosen.name.rpartition(".")[0])
                self._end(shim)

    def _record(self, kind: str, **fields: str) -> None:
        if self._recorder is not None:
            self._recorder.fault(kind, **fields)

    def _end(self, pid: int | None) -> None:
        if pid is not None and pid in touching(self._house.root):
            os.kill(pid, signal.SIGKILL)
