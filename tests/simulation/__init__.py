"""A deterministic simulation of the whole protocol: the product's own decisions in one thread, on virtual time.

`python -m tests.simulation --seeds 1-100`, `--minutes 3`, or `--seed 17 --trace` for one seed's story.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from tests.simulation.world import World


BUSY_RUNS, BUSY_FAULTS = 20, 5


@dataclass(slots=True, kw_only=True)
class Summary:
    """What was simulated and what came of it. `violations` are (seed, sentence)."""

    seeds: list[int] = field(default_factory=list)
    simulated_hours: float = 0.0
    cpu_s: float = 0.0
    runs: int = 0
    processes: int = 0
    partitions: int = 0
    overlaps: int = 0
    faults_by_kind: dict[str, int] = field(default_factory=dict)
    crash_points: dict[str, int] = field(default_factory=dict)
    excused: dict[str, int] = field(default_factory=dict)
    violations: list[tuple[int, str]] = field(default_factory=list)
    # Of the simulated hours with the fewest of them.
    fewest_runs: int = 1 << 30
    fewest_faults: int = 1 << 30
    # Hours, and their faults, in which at least BUSY_RUNS runs were asked for and BUSY_FAULTS faults happened.
    busy_hours: float = 0.0
    busy_faults: int = 0

    @property
    def faults(self) -> int:
        return sum(self.faults_by_kind.values())


@contextmanager
def quiet() -> Iterator[None]:
    """The product's own log lines cost more than all the rest."""
    kept = structlog.get_config()
    structlog.configure(**{**kept, "wrapper_class": structlog.make_filtering_bound_logger(50)})
    try:
        yield
    finally:
        structlog.configure(**kept)


def run(
    seeds: Iterable[int], minutes: float | None = None, *, said: Callable[[int, str], None] | None = None
) -> Summary:
    """Simulate an hour for each seed, until `minutes` of CPU are used up; `said` hears of violations at once."""
    from tests.simulation.world import World

    made = Summary()
    with quiet(), _few_collections():
        for seed in seeds:
            began = time.process_time()
            world = World(seed)
            world.live()
            _add(made, world)
            for text in world.truth.violations if said is not None else ():
                said(seed, text)
            made.cpu_s += time.process_time() - began
            if minutes is not None and made.cpu_s >= minutes * 60:
                break
    return made


@contextmanager
def _few_collections() -> Iterator[None]:
    """What was there before the first world is not looked through again after each."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _add(made: Summary, world: World) -> None:
    made.seeds.append(world.seed)
    # The hours of trouble; the peace after them is not counted.
    made.simulated_hours += world.hours
    made.runs += len(world.wishes)
    made.processes += len(world.truth.processes)
    made.partitions += world.faults.partitions
    made.overlaps += len(world.truth.overlaps)
    made.fewest_runs = min(made.fewest_runs, len(world.wishes))
    faults = sum(world.faults.counts.values())
    made.fewest_faults = min(made.fewest_faults, faults)
    if len(world.wishes) >= BUSY_RUNS and faults >= BUSY_FAULTS:
        made.busy_hours += world.hours
        made.busy_faults += faults
    for into, counts in (
        (made.faults_by_kind, world.faults.counts),
        (made.crash_points, world.loop.crash_points),
        (made.excused, world.truth.excused),
    ):
        for kind, count in counts.items():
            into[kind] = into.get(kind, 0) + count
    made.violations += [(world.seed, text) for text in world.truth.violations]
