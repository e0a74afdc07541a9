"""A build host: its disk, its processes, its fork server, and what a crash or a reboot leaves of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner_agent.execution.journal import Notes
from runner_agent.shim import remains
from runner_agent.shim.digest import LogDigest
from runner_agent.shim.messages import ExitRecord, Reason
from tests.simulation.clocks import HostClock
from tests.simulation.loop import Life, SimLoop
from tests.simulation.truth import Key, Process, Truth, short

if TYPE_CHECKING:
    from tests.simulation.shim import SimShim


@dataclass(slots=True)
class SpoolRecord:
    """A piece of a spool. `synced`: it survives the host."""

    offset: int
    data: bytes
    kind: int
    step: int
    at_ns: int
    synced: bool = False


@dataclass(slots=True)
class Identity:
    """What a step's child wrote down before it was let go."""

    boot_id: str
    shim_pid: int


@dataclass(slots=True)
class RunDir:
    """A run directory. `synced` names the files that survive a power cut for sure."""

    key: Key
    files: dict[str, Any] = field(default_factory=dict)
    synced: set[str] = field(default_factory=set)
    spool: list[SpoolRecord] = field(default_factory=list)
    end: int = 0
    lock: object | None = None

    def write(self, name: str, content: Any, *, sync: bool = True) -> None:
        self.files[name] = content
        if sync:
            self.synced.add(name)

    def identities(self) -> list[Identity]:
        return [self.files[name] for name in sorted(self.files) if name.startswith("identity")]


class Host:
    """Everything that stays when the agent goes."""

    def __init__(self, loop: SimLoop, truth: Truth, rng: random.Random, name: str) -> None:
        self.loop, self.truth, self.rng, self.name = loop, truth, rng, name
        self.clock = HostClock(loop, 1.0 + rng.uniform(-4e-4, 4e-4))
        self.use_cgroups = rng.random() < 0.5
        self.boots = 0
        self.boot_id = f"{name}-boot-0"
        self.dirs: dict[Key, RunDir] = {}
        self.shims: dict[Key, SimShim] = {}
        self.processes: list[Process] = []
        self.fork_server: Life | None = None
        self.retired: list[Life] = []
        self.full = False
        # How many of the shims born here are killed at one of their next steps.
        self.doom = 0.0
        self.fault: Callable[[str], None] = lambda kind: None
        self.pids = 0
        self._guards: dict[int, Life] = {}

    def keeps(self) -> list[tuple[Key, RunDir]]:
        """The run directories in which anything was promised."""
        return [(key, directory) for key, directory in self.dirs.items() if directory.files]

    # -- fork server

    def guard(self) -> Life:
        """The fork server; a new one if there is none."""
        if self.fork_server is None or not self.fork_server.alive:
            self.fork_server = Life(self.loop, f"{self.name} fork server")
        return self.fork_server

    def new_pid(self) -> int:
        self.pids += 1
        self._guards[self.pids] = self.guard()
        return self.pids

    def guarded(self, shim_pid: int) -> bool:
        guard = self._guards.get(shim_pid)
        return guard is not None and guard.alive

    def shim_died(self, shim: SimShim) -> None:
        """A shim went without finishing: its fork server, if it lives, ends its orphans and bears witness."""
        directory = shim.directory
        if directory.lock is shim:
            directory.lock = None
        self.shims.pop(shim.key, None)
        if not self.guarded(shim.pid):
            for process in self.of_shim(shim.pid):
                process.excuse = process.excuse or "unguarded"
            return
        guard = self._guards[shim.pid]
        guard.later(self.rng.uniform(0.001, 0.05), self._bury, directory, shim.pid, guard)

    def _bury(self, directory: RunDir, shim_pid: int, guard: Life) -> None:
        killed = self.kill(self.of_shim(shim_pid))
        guard.point("fork server: before it bears witness")
        directory.write("swept", {"shim_pid": shim_pid, "tree_empty": True, "killed": killed})

    # -- processes

    def of_shim(self, shim_pid: int) -> list[Process]:
        return [each for each in self.processes if each.shim_pid == shim_pid and each.lives]

    def run(self, process: Process) -> None:
        self.processes.append(process)
        self.truth.started(process, self.loop.now)

    def end(self, process: Process) -> None:
        self.truth.ended(process, self.loop.now)
        if process in self.processes:
            self.processes.remove(process)

    def kill(self, processes: list[Process]) -> int:
        for process in processes:
            self.end(process)
        return len(processes)

    def excuse(self, process: Process) -> str:
        """Whether the guard of a process could not act when its loss deadline passed."""
        shim = self.shims.get(process.key)
        return "frozen" if shim is not None and (shim.overslept or shim.oversleeps()) else ""

    def power_cut(self) -> None:
        """Every process ends; what was not synced is gone, or happens to be there."""
        for shim in list(self.shims.values()):
            shim.life.on_death.clear()
            shim.life.kill()
        self.shims.clear()
        if self.fork_server is not None:
            self.fork_server.kill()
        self.kill(list(self.processes))
        self.boots += 1
        self.boot_id = f"{self.name}-boot-{self.boots}"
        self.clock.reboot()
        for key, directory in list(self.dirs.items()):
            directory.lock = None
            for name in [name for name in directory.files if name not in directory.synced]:
                if self.rng.random() < 0.7:
                    del directory.files[name]
            kept = [index for index, record in enumerate(directory.spool) if record.synced]
            upto = (kept[-1] + 1 if kept else 0) + (self.rng.randrange(3) if self.rng.random() < 0.3 else 0)
            if upto < len(directory.spool):
                self.truth.log(key).lost = True
                del directory.spool[upto:]
                last = directory.spool[-1] if directory.spool else None
                directory.end = 0 if last is None else last.offset + len(last.data)
            if not directory.files:
                del self.dirs[key]


class SimRemains:
    """A run directory of the simulation, as the product's decisions want to see it."""

    def __init__(self, host: Host, directory: RunDir) -> None:
        self._host, self._directory = host, directory
        self._held = False

    def stored_record(self) -> ExitRecord | None:
        record: ExitRecord | None = self._directory.files.get("exit")
        return record

    def take_lock(self) -> bool:
        self._held = self._directory.lock is None
        if self._held:
            self._directory.lock = self
        return self._held

    def let_go(self) -> None:
        if self._directory.lock is self:
            self._directory.lock = None

    def is_untouched(self) -> bool:
        return not any(name in self._directory.files for name in ("tombstone", "spec", "identity", "stop"))

    def was_used(self) -> bool:
        return any(name in self._directory.files for name in ("identity", "exit"))

    def leave_tombstone(self) -> bool:
        if self._host.full and "tombstone" not in self._directory.files:
            return False
        self._directory.write("tombstone", True)
        return True

    def account(self) -> ExitRecord:
        directory, host = self._directory, self._host
        key, at_ns = directory.key, host.clock.wall_ns()
        shim = host.shims.get(key)
        if shim is not None and shim.life.alive:
            host.truth.violate(host.loop.now, f"I6 {short(key)} is called dead while its shim lives")
        identities = directory.identities()
        if not identities:
            return remains.never_executed(key.run_id, key.epoch, at_ns)
        boot_ids = tuple(each.boot_id for each in identities)
        rebooted = remains.was_rebooted(boot_ids, host.boot_id)
        killed, empty = (0, True) if rebooted else self._sweep(identities[0].shim_pid)
        digest = LogDigest()
        for record in directory.spool:
            record.synced = True
            digest.data(record.data)
        stop: Reason | None = directory.files.get("stop")
        found = remains.Findings(
            run_id=key.run_id,
            epoch=key.epoch,
            boot_ids=boot_ids,
            final_offset=digest.offset,
            digest=digest.hex(),
            gaps=(),
            stopped_by=stop,
            at_ns=at_ns,
        )
        return remains.ended_without_its_shim(found, rebooted=rebooted, killed=killed, empty=empty)

    def _sweep(self, shim_pid: int) -> tuple[int, bool]:
        """Kill what can be found; what the kernel says of it: a witness, or an empty cgroup."""
        host = self._host
        left = host.of_shim(shim_pid)
        if host.guarded(shim_pid):
            return host.kill(left), True
        swept = self._directory.files.get("swept")
        if swept is not None and swept["shim_pid"] == shim_pid:
            return host.kill(left), bool(swept["tree_empty"])
        if host.use_cgroups:
            return host.kill(left), True
        return host.kill([each for each in left if each.cookie or each.leader]), False

    def store(self, record: ExitRecord) -> None:
        if not self._host.full:
            self._directory.write("exit", record)


def default_notes() -> Notes:
    return Notes()
