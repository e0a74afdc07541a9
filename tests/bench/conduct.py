"""Conducts the measurements: floor and product by turns, within their time, and keeps what they found."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.bench.registry import Effort, Measurement, Round
from tests.bench.systems import Setup, System, systems

OTHER = "banksman"
# For all measurements together; calibrations, the last stop and the table have the rest of 45 and of 2 minutes.
TOTAL_S = {Effort.FULL: 43.5 * 60, Effort.QUICK: 108.0, Effort.TINY: 600.0}
Values = dict[str, list[float]]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of one measurement. `trouble` says why values are missing; empty when none are."""

    measurement: Measurement
    repetitions: int
    limit_s: float
    took_s: float = 0.0
    trouble: str = ""
    values: Values = field(default_factory=lambda: defaultdict(list))
    bases: Values = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    def keep(self, made: Round, system: str) -> None:
        into = self.bases if system == "floor" else self.values
        for name, value in made.values.items():
            into[name].append(value)
        for name, value in made.bases.items():
            self.bases[name].append(value)
        self.notes += [note for note in made.notes if note not in self.notes]

    def complete(self, name: str) -> bool:
        return len(self.values.get(name, ())) >= self.repetitions


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class House:
    """The systems that run now; kept from one measurement to the next when it wants the same ones."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._setup: Setup | None = None
        self._running = AsyncExitStack()
        self._systems: list[System] = []

    async def running(self, setup: Setup) -> Sequence[System]:
        if setup != self._setup:
            await self.close()
            floor = pathlib.Path(tempfile.mkdtemp(dir=self._directory)) / "floor"
            for system in systems(setup, floor):
                try:
                    await system.start()
                except BaseException:
                    await system.stop()
                    raise
                self._running.push_async_callback(system.stop)
                self._systems.append(system)
            self._setup = setup
        return self._systems

    async def close(self) -> None:
        self._setup, self._systems = None, []
        await self._running.aclose()
        self._running = AsyncExitStack()


@asynccontextmanager
async def house(directory: pathlib.Path) -> AsyncIterator[House]:
    made = House(directory)
    try:
        yield made
    finally:
        await made.close()


async def conduct(
    measurements: Iterable[Measurement], effort: Effort, directory: pathlib.Path
) -> AsyncIterator[Outcome]:
    """One outcome after another. A measurement that fails or runs out of time does not end the others; what is left
    when the time of all is over is not measured."""
    end = time.monotonic() + TOTAL_S[effort]
    async with house(directory) as running:
        for measurement in measurements:
            limit_s = measurement.limits.of(effort) or measurement.limits.full
            repetitions = 1 if effort is Effort.TINY else measurement.repetitions
            limit_s = max(0.0, min(limit_s, end - time.monotonic()))
            outcome = Outcome(measurement=measurement, repetitions=repetitions, limit_s=limit_s)
            say(f"{measurement.name}: {measurement.says}")
            begin = time.monotonic()
            try:
                async with asyncio.timeout(limit_s):
                    await _repeat(outcome, effort, running, directory)
            except TimeoutError:
                outcome.trouble = f"out of time after {limit_s:.0f} s"
            except Exception as error:  # noqa: BLE001 - whatever went wrong is the outcome, and is shown
                outcome.trouble = f"failed: {_words(error)}"
            outcome.took_s = time.monotonic() - begin
            if outcome.trouble:
                say(f"  {outcome.trouble}")
                await running.close()  # nobody knows what it left there
            yield outcome


async def _repeat(outcome: Outcome, effort: Effort, running: House, directory: pathlib.Path) -> None:
    measurement = outcome.measurement
    for number in range(outcome.repetitions):
        measured: Sequence[System | None] = [None]
        if measurement.setup is not None:
            measured = await running.running(measurement.setup)
        for system in measured:
            place = pathlib.Path(tempfile.mkdtemp(dir=directory))
            made = Round(effort=effort, number=number, directory=place, running=system)
            try:
                await measurement.once(made)
            finally:
                shutil.rmtree(place, ignore_errors=True)
            name = OTHER if system is None else system.name
            outcome.keep(made, name)
            found = [f"{key} {value:.4g}" for key, value in made.values.items()]
            found += [f"{key} (base) {value:.4g}" for key, value in made.bases.items()]
            say(f"  {number + 1}/{outcome.repetitions} {name:9} {', '.join(found)}")


def _words(error: BaseException) -> str:
    """The first cause, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
