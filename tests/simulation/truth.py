"""Ground truth: which process of which attempt lived when, and what it wrote. Nothing here asks the product."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.host import Host


@dataclass(frozen=True, slots=True)
class Key:
    """An attempt, by the world's own words."""

    run_id: str
    epoch: int


@dataclass(eq=False, slots=True)
class Process:
    """One process of an attempt, from its exec to its end."""

    key: Key
    host: Host
    step: int
    leader: bool
    stubborn: bool
    cookie: bool
    shim_pid: int
    started: float = 0.0
    ended: float | None = None
    holds_pipe: bool = True
    # Why it may outlive what the server promises: its guards were frozen, or killed together.
    excuse: str = ""

    @property
    def lives(self) -> bool:
        return self.ended is None


@dataclass(slots=True)
class Written:
    """What the children of one attempt have written and what its shim has taken, in order."""

    children: bytearray = field(default_factory=bytearray)
    taken: bytearray = field(default_factory=bytearray)
    # Parts of `taken` that the children wrote (the rest are the shim's own lines).
    own: list[tuple[int, int]] = field(default_factory=list)
    # Bytes that were in a pipe when a shim died, or in a cache when a host did.
    lost: bool = False


class Truth:
    """The ledger of processes."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.living: dict[str, list[Process]] = {}
        self.written: dict[Key, Written] = {}
        self.overlaps: list[str] = []
        self.excused: dict[str, int] = {}
        self.violations: list[str] = []
        self.started_of: dict[str, int] = {}
        # Runs whose cancel was answered: the fence at that moment; nothing newer may start.
        self.cancelled_at: dict[str, int] = {}

    def log(self, key: Key) -> Written:
        return self.written.setdefault(key, Written())

    def violate(self, now: float, text: str) -> None:
        self.violations.append(f"{now:.3f} {text}")

    def started(self, process: Process, now: float) -> None:
        """A process was executed: it must be alone with its attempt's own."""
        process.started = now
        run_id = process.key.run_id
        self.processes.append(process)
        if process.key.epoch > self.cancelled_at.get(run_id, 1 << 62):
            self.violate(now, f"I4 {_short(process.key)} starts after its run's cancel was answered")
        for other in self.living.get(run_id, ()):
            if other.key.epoch != process.key.epoch and other.lives:
                excuse = other.excuse or other.host.excuse(other) or process.excuse
                if excuse:
                    self.excused[excuse] = self.excused.get(excuse, 0) + 1
                else:
                    text = f"I2 {_short(process.key)} starts on {process.host.name} while {_short(other.key)} lives on"
                    self.overlaps.append(text)
                    self.violate(now, f"{text} {other.host.name}")
        self.living.setdefault(run_id, []).append(process)
        self.started_of[run_id] = max(self.started_of.get(run_id, 0), process.key.epoch)

    def ended(self, process: Process, now: float) -> None:
        if process.ended is None:
            process.ended = now
            living = self.living.get(process.key.run_id, [])
            if process in living:
                living.remove(process)

    def alive(self, key: Key) -> list[Process]:
        return [each for each in self.living.get(key.run_id, ()) if each.key == key]

    def wrote(self, key: Key, data: bytes) -> None:
        self.log(key).children += data


def _short(key: Key) -> str:
    return f"{key.run_id[-6:]}.{key.epoch & 0xFFFF}"


short = _short
