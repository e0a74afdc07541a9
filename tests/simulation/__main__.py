"""Run the simulation from the command line; exit status 1 when an invariant was violated."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable

from tests.simulation import Summary, quiet, run
from tests.simulation.world import World

FIRST_SEED = 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", help="A-B (both inclusive), or a list with commas; one simulated hour each")
    parser.add_argument("--minutes", type=float, help="stop after so much CPU time")
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--trace", action="store_true", help="with --seed: print the whole story")
    parser.add_argument("--first", action="store_true", help="stop at the first seed that violates anything")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _one(asked.seed, trace=asked.trace)
    seeds: Iterable[int] = _seeds(asked.seeds) if asked.seeds else itertools.count(FIRST_SEED)
    if not asked.seeds and asked.minutes is None:
        seeds = range(FIRST_SEED, FIRST_SEED + 20)
    if asked.first:
        return _until_first(seeds, asked.minutes)
    made = run(seeds, asked.minutes, said=_say)
    _print(made)
    return 1 if made.violations else 0


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def _one(seed: int, *, trace: bool) -> int:
    with quiet():
        world = World(seed, keep_trace=trace)
        world.live()
    if trace:
        print("\n".join(world.lines))
    print(f"seed {seed}: trace {world.digest[:16]}, {len(world.truth.violations)} violations")
    for text in world.truth.violations:
        print(f"  {text}")
    return 1 if world.truth.violations else 0


def _until_first(seeds: Iterable[int], minutes: float | None) -> int:
    """For whoever wants a verdict soon: the first violation ends it."""
    began = time.process_time()
    for seed in seeds:
        made = run([seed])
        if made.violations:
            print(f"seed {seed}: {made.violations[0][1]}")
            return 1
        if minutes is not None and time.process_time() - began > minutes * 60:
            break
    print(f"nothing violated in {time.process_time() - began:.0f} s of CPU")
    return 0


def _say(seed: int, text: str) -> None:
    print(f"seed {seed}: {text}", file=sys.stderr, flush=True)


def _print(made: Summary) -> None:
    minutes = max(made.cpu_s / 60, 1e-9)
    print(f"seeds {made.seeds[0]} to {made.seeds[-1]}, {len(made.seeds)} in all")
    hours = made.simulated_hours
    print(f"simulated {hours:.0f} h in {made.cpu_s:.0f} s of CPU: {hours / minutes:.0f} h a minute")
    print(f"runs {made.runs} (at least {made.fewest_runs} an hour), processes {made.processes}")
    print(f"faults {made.faults} (at least {made.fewest_faults} an hour): {made.faults / minutes:.0f} a minute of CPU")
    for kind, count in sorted(made.faults_by_kind.items(), key=lambda item: -item[1]):
        print(f"  {count:7d} {kind}")
    print(f"crashes at {len(made.crash_points)} points:")
    for kind, count in sorted(made.crash_points.items(), key=lambda item: -item[1]):
        print(f"  {count:7d} {kind}")
    print(f"partitions {made.partitions}, overlaps {made.overlaps}, excused {made.excused or 'none'}")
    print(f"violations {len(made.violations)}")
    for seed, text in made.violations[:40]:
        print(f"  seed {seed}: {text}", f"    replay: python -m tests.simulation --seed {seed} --trace", sep="\n")


if __name__ == "__main__":
    sys.exit(main())
