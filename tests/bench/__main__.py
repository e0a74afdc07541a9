"""Measure floor and product in turns, print a table, and keep the figures in a file.

    python -m tests.bench                         everything (up to 45 minutes)
    python -m tests.bench --quick                 a subset with less of each (under two minutes)
    python -m tests.bench --only log --only dispatch
    python -m tests.bench --list                  what there is
    python -m tests.bench --write-doc FILE        put the table of FILE into docs/performance.md

Exit status: 0 when all goals are met, 1 when one is missed, 2 when a figure was not measured,
3 when the floor is slower than the machine allows.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import argparse
import asyncio
import datetime
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict

from tests.bench import floor_checks, machine, tables
from tests.bench.conduct import Outcome, conduct, say
from tests.bench.measures import load
from tests.bench.registry import Effort, Measurement
from tests.bench.results import Results, Verdict, as_json, read, rows

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "performance.md"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a subset, less of each: under two minutes")
    parser.add_argument("--tiny", action="store_true", help="next to nothing of each: does the measuring work?")
    parser.add_argument("--only", action="append", metavar="NAME", default=[], help="this measurement; repeatable")
    parser.add_argument("--list", action="store_true", help="show the measurements and their figures")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bench-results.json"), metavar="FILE")
    parser.add_argument("--write-doc", type=pathlib.Path, metavar="FILE", help=f"put FILE's table into {PAGE.name}")
    return parser.parse_args(argv)


def commit() -> str:
    """What is measured: the commit, and whether the tree differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


async def measure(measurements: Sequence[Measurement], effort: Effort, directory: pathlib.Path) -> list[Outcome]:
    return [outcome async for outcome in conduct(measurements, effort, directory)]


def bench(measurements: Sequence[Measurement], effort: Effort) -> Results:
    """Calibrate, measure, calibrate again."""
    begin, now = time.monotonic(), datetime.datetime.now(datetime.UTC)
    results = Results(
        date=now.strftime("%Y-%m-%d %H:%M UTC"), commit=commit(), effort=effort, machine=machine.describe()
    )
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bnk-bench-", dir="/tmp"))
    try:
        before = machine.calibrate(directory)
        say(f"machine before: {before.words()}\nthe reference:  {machine.REFERENCE.words()}")
        outcomes = asyncio.run(measure(measurements, effort, directory))
        after = machine.calibrate(directory)
        say(f"machine after:  {after.words()}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    results.calibration = {
        "reference": asdict(machine.REFERENCE),
        "before": asdict(before),
        "after": asdict(after),
    }
    bases = {name: values for outcome in outcomes for name, values in outcome.bases.items()}
    for check in floor_checks.checks(bases, before, after):
        results.floor.append({**asdict(check), "honest": check.honest, "words": check.words()})
    for outcome in outcomes:
        results.figures += as_json(rows(outcome))
        about = outcome.measurement
        results.measurements.append(
            {
                "name": about.name,
                "says": about.says,
                "took_s": outcome.took_s,
                "limit_s": outcome.limit_s,
                "trouble": outcome.trouble,
                "notes": outcome.notes,
            }
        )
    results.took_s = time.monotonic() - begin
    return results


def status(results: Results) -> int:
    """The worst of what happened, as an exit status; see this module's docstring."""
    found = {row["verdict"] for row in results.figures}
    if not all(check["honest"] for check in results.floor):
        return 3
    if Verdict.NOT_MEASURED in found or not results.figures:
        return 2
    return 1 if found & {Verdict.MISSED, Verdict.PARTLY} else 0


def show(results: Results) -> None:
    print(tables.text(results.figures))
    for check in results.floor:
        print(check["words"])
    before, after = (machine.Calibration(**results.calibration[when]) for when in ("before", "after"))
    spread = ", ".join(f"{part} {share:.0%}" for part, share in machine.noise(before, after).items())
    print(f"the machine's parts before and after the measurements differ by: {spread}")
    counted = {verdict: sum(row["verdict"] == verdict for row in results.figures) for verdict in Verdict}
    print(", ".join(f"{count} {verdict}" for verdict, count in counted.items() if count and verdict != Verdict.SHOWN))


def main(argv: Sequence[str] | None = None) -> int:
    given, known = arguments(argv), load()
    if given.write_doc:
        tables.write_into(PAGE, read(given.write_doc))
        return 0
    if unknown := set(given.only) - known.keys():
        say(f"no such measurement: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        return 2
    if given.list:
        for measurement in known.values():
            print(f"{measurement.name:18} {measurement.says}")
            for figure in measurement.figures:
                print(f"    {figure.label}, {figure.unit}: {figure.goal()}")
        return 0
    effort = Effort.TINY if given.tiny else Effort.QUICK if given.quick else Effort.FULL
    if given.only:  # what is named is measured, also where a quick run leaves it out
        chosen = [known[name] for name in dict.fromkeys(given.only)]
    else:
        chosen = [found for found in known.values() if found.limits.of(effort) is not None]
    results = bench(chosen, effort)
    show(results)
    results.write(given.out)
    print(f"figures kept in {given.out}, after {results.took_s:.0f} s")
    return status(results)


if __name__ == "__main__":
    sys.exit(main())
