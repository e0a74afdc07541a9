"""What can be measured: figures with their goals, and the measurements that find their values.

A measurement is a coroutine that is decorated with `measurement` and takes one Round: it is called once for each
repetition and each system, does its work, and records values by the names of its figures.
"""

from __future__ import annotations

import pathlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from tests.bench.processes import Cost, Meter
from tests.bench.systems import Setup, System

T = TypeVar("T")


class Effort(StrEnum):
    """How much is done: for the record, for a look, for a test of the measuring itself."""

    FULL = "full"
    QUICK = "quick"
    TINY = "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table.

    `ratio` is the goal against the base (the floor, unless `base` names something else); `bound` is the goal in
    `unit`. Both bind where both are given. `first` is a lesser ratio on the way to `ratio`: between them the verdict
    says so. Without either the figure is shown and judged by nobody.
    """

    name: str
    label: str
    unit: str
    more_is_better: bool = False
    ratio: float | None = None
    first: float | None = None
    bound: float | None = None
    base: str = "floor"

    @property
    def judged(self) -> bool:
        return self.ratio is not None or self.bound is not None

    def goal(self) -> str:
        sign = "≥" if self.more_is_better else "≤"
        words = []
        if self.ratio is not None:
            first = f"{self.first:g}, then " if self.first is not None else ""
            words.append(f"{sign} {first}{self.ratio:g} × {self.base}")
        if self.bound is not None:
            words.append(f"{sign} {self.bound:g} {self.unit}")
        return ", ".join(words) or "–"

    def within(self, value: float, limit: float) -> bool:
        return value >= limit if self.more_is_better else value <= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds that all repetitions together may take; without `quick` it is left out of the quick run."""

    full: float
    quick: float | None = None

    def of(self, effort: Effort) -> float | None:
        return {Effort.FULL: self.full, Effort.QUICK: self.quick, Effort.TINY: 90.0}[effort]


@dataclass(slots=True, kw_only=True)
class Round:
    """One repetition of one measurement on one system."""

    effort: Effort
    number: int
    directory: pathlib.Path
    running: System | None = None
    values: dict[str, float] = field(default_factory=dict)
    bases: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def system(self) -> System:
        """The system to measure; only with a Setup."""
        assert self.running is not None, "this measurement has no Setup"
        return self.running

    def pick(self, *, full: T, quick: T, tiny: T) -> T:
        return {Effort.FULL: full, Effort.QUICK: quick, Effort.TINY: tiny}[self.effort]

    def record(self, name: str, value: float) -> None:
        """The value of a figure in this repetition, of the system that is measured."""
        self.values[name] = value

    def record_base(self, name: str, value: float) -> None:
        """What a figure is held against, where that is not the floor."""
        self.bases[name] = value

    def note(self, text: str) -> None:
        """Conditions that a reader of the figures must know; kept with them."""
        self.notes.append(text)

    @contextmanager
    def metered(self) -> Iterator[Cost]:
        """CPU time and peak memory of each process of the system meanwhile; filled in at the end of the block."""
        with Meter(self.system.processes()).measuring() as cost:
            yield cost


Once = Callable[[Round], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Finds the values of its figures. `setup` is the system that it wants; without, it starts what it needs."""

    name: str
    says: str
    once: Once
    figures: tuple[Figure, ...]
    limits: Limits
    setup: Setup | None = None
    repetitions: int = 3


REGISTERED: dict[str, Measurement] = {}


def measurement(
    name: str,
    *,
    says: str,
    figures: tuple[Figure, ...],
    limits: Limits,
    setup: Setup | None = None,
    repetitions: int = 3,
) -> Callable[[Once], Once]:
    """Register the coroutine that is decorated. Its figures' names are unique over all measurements."""

    def register(once: Once) -> Once:
        known = {figure.name for other in REGISTERED.values() for figure in other.figures}
        twice = known & {figure.name for figure in figures} or {name} & REGISTERED.keys()
        assert not twice, f"registered twice: {twice}"
        REGISTERED[name] = Measurement(
            name=name,
            says=says,
            once=once,
            figures=figures,
            limits=limits,
            setup=setup,
            repetitions=repetitions,
        )
        return once

    return register
