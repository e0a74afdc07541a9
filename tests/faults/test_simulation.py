"""Three CPU minutes of simulated trouble: nothing overlaps, nothing is lost, everything settles."""

from __future__ import annotations

import itertools

from tests.faults.figures import Recorder
from tests.simulation import run

CPU_MINUTES = 3.0
FIRST_SEED = 100_000


def test_simulated_trouble_violates_nothing(figures: Recorder) -> None:
    made = run(itertools.count(FIRST_SEED), CPU_MINUTES)
    minutes = made.cpu_s / 60
    hours, faults = made.busy_hours / minutes, made.busy_faults / minutes
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(made.faults_by_kind.items()))
    spread = f"{len(made.seeds)} seeds, {made.busy_hours:.0f} of {made.simulated_hours:.0f} h with 20 runs and 5 faults"
    figures.record("simulated hours a CPU minute", hours, unit="h", goal=">= 40", ok=hours >= 40, spread=spread)
    figures.record("simulated faults a CPU minute", faults, goal=">= 5,000", ok=faults >= 5_000, note=kinds)
    enough = made.partitions >= 1_000
    figures.record(
        "overlaps, simulated partitions", made.overlaps, goal="0 in >= 1,000", ok=made.overlaps == 0 and enough,
        spread=f"{made.partitions} partitions", note=f"excused: {made.excused or 'none'}",
    )  # fmt: skip
    assert made.violations == []
