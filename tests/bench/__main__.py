"""Measure floor and product in turns, print a table, and keep the figures in bench-results.json."""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import argparse
import asyncio
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass

from tests.bench import figures, machine
from tests.bench.systems import Floor, Product, System


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure's goal as a ratio to the floor; `bound` is absolute and binds on a quiet machine only."""

    key: str
    label: str
    unit: str
    more_is_better: bool
    ratio: float | None
    bound: float | None = None

    def met(self, ratio: float, value: float) -> bool | None:
        if self.ratio is not None:
            return ratio >= self.ratio if self.more_is_better else ratio <= self.ratio
        return None if self.bound is None else value <= self.bound

    def words(self) -> str:
        sign = "≥" if self.more_is_better else "≤"
        ratio = f"{sign} {self.ratio:g} × floor" if self.ratio is not None else ""
        bound = f"{sign} {self.bound:g} {self.unit}" if self.bound is not None else ""
        return ", ".join(filter(None, (ratio, bound))) or "–"


GOALS = (
    Goal(key="dispatch p50", label="CreateRun → first instruction, p50", unit="ms", more_is_better=False, ratio=3),
    Goal(key="dispatch p99", label="… p99", unit="ms", more_is_better=False, ratio=None, bound=20),
    Goal(key="runs", label="queued no-op runs, 8 slots", unit="runs/s", more_is_better=True, ratio=0.3),
    Goal(key="submits", label="submits, 32 at once", unit="/s", more_is_better=True, ratio=0.3),
    Goal(key="log", label="100-byte lines → durable", unit="MB/s", more_is_better=True, ratio=0.4),
    Goal(key="cancel p50", label="cancel → dead, p50", unit="ms", more_is_better=False, ratio=2.5),
    Goal(key="cancel p99", label="… p99", unit="ms", more_is_better=False, ratio=None),
)
Values = dict[str, dict[str, list[float]]]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def measure(systems: list[System], effort: figures.Effort, directory: pathlib.Path, values: Values) -> None:
    """Fill values[figure][system] by turns, so that what disturbs the machine disturbs both."""
    for figure in (figures.dispatch, figures.throughput, figures.log, figures.cancel):
        for repetition in range(effort.repetitions):
            for system in systems:
                place = pathlib.Path(tempfile.mkdtemp(dir=directory))
                found = await figure(system, effort, place)
                for key, value in found.items():
                    values[key][system.name].append(value)
                shown = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
                say(f"  {repetition + 1}/{effort.repetitions} {system.name:9} {shown}")


async def run(
    effort: figures.Effort, directory: pathlib.Path, values: Values, limit_s: float
) -> dict[str, list[float]]:
    """Measure within limit_s; answers the peak memory of both systems' programs."""
    systems: list[System] = [Floor(directory / "floor"), Product()]
    started: list[System] = []
    try:
        async with asyncio.timeout(limit_s):
            for system in systems:
                await system.start()
                started.append(system)
            await measure(systems, effort, directory, values)
    except TimeoutError:
        say(f"stopped after {limit_s:g} s: what is missing below was not measured")
    finally:
        peaks = {system.name: list(system.peaks_mib()) for system in started}
        for system in started:
            await system.stop()
    return peaks


def rows(values: Values) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    for goal in GOALS:
        both = values.get(goal.key, {})
        if not all(both.get(name) for name in ("floor", "banksman")):
            continue
        middle = {name: statistics.median(found) for name, found in both.items()}
        ratio = middle["banksman"] / middle["floor"]
        made.append(
            {
                "key": goal.key,
                "label": goal.label,
                "unit": goal.unit,
                "median": middle,
                "ratio": ratio,
                "goal": goal.words(),
                "met": goal.met(ratio, middle["banksman"]),
                "values": dict(both),
            }
        )
    return made


def table(made: list[dict[str, object]], values: Values) -> str:
    """Value and floor as median (min–max), their ratio, and the goal."""

    def spread(key: str, name: str) -> str:
        found = values[key][name]
        return f"{statistics.median(found):.4g} ({min(found):.4g}–{max(found):.4g})"

    lines = [("figure", "unit", "banksman", "floor", "ratio", "goal", "")]
    for row in made:
        key, met = str(row["key"]), row["met"]
        mark = "" if met is None else "met" if met else "MISSED"
        values_of = spread(key, "banksman"), spread(key, "floor")
        lines.append((str(row["label"]), str(row["unit"]), *values_of, f"{row['ratio']:.2f}", str(row["goal"]), mark))
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers: under two minutes")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("bench-results.json"), help="where to keep the figures"
    )
    given = parser.parse_args()
    effort = figures.QUICK if given.quick else figures.FULL
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bnk-bench-", dir="/tmp"))
    values: Values = defaultdict(lambda: defaultdict(list))
    try:
        before = machine.calibrate(directory)
        say("machine: " + ", ".join(f"{key} {value:.3g}" for key, value in before.items()))
        peaks = asyncio.run(run(effort, directory, values, 110 if given.quick else 840))
        after = machine.calibrate(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    made = rows(values)
    print(table(made, values))
    for name, (server, runner) in peaks.items():
        print(f"peak memory of {name}: server {server:.0f} MiB, runner {runner:.0f} MiB")
    print("machine before and after: " + "; ".join(f"{key} {before[key]:.3g}, {after[key]:.3g}" for key in before))
    result = {"machine": machine.describe(), "before": before, "after": after, "effort": asdict(effort)}
    given.out.write_text(json.dumps({**result, "peak_mib": peaks, "figures": made}, indent=2) + "\n")
    print(f"figures kept in {given.out}")
    return 0 if len(made) == len(GOALS) else 1


if __name__ == "__main__":
    sys.exit(main())
