"""The simulation in small: fixed seeds hold every invariant, and a seed is the same story wherever it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import quiet, run
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.world import World

ROOT = Path(__file__).resolve().parents[2]
# Some batches, so that they run side by side.
BATCHES = (range(1_010, 1_016), range(2_002, 2_006), range(33, 38))


@pytest.mark.parametrize("seeds", BATCHES, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_every_invariant_holds_for_fixed_seeds(seeds: range) -> None:
    made = run(seeds)
    assert made.violations == []
    assert made.overlaps == 0
    # Its faults may leave one hour few runs; together they are busy.
    assert made.runs >= 20 * made.simulated_hours
    assert made.fewest_faults >= 5
    assert made.processes > made.runs


@pytest.mark.parametrize("seed", sorted(REGRESSIONS))
def test_a_seed_that_failed_once_holds(seed: int) -> None:
    assert run([seed]).violations == [], REGRESSIONS[seed]


def test_a_seed_is_one_story() -> None:
    with quiet():
        world = World(7, hours=0.5)
        world.live()
    assert told_elsewhere(7, "1") == told_elsewhere(7, "2") == world.digest


def told_elsewhere(seed: int, hash_seed: str) -> str:
    """The trace of a seed in another process, under another hash seed."""
    story = (
        "from tests.simulation import quiet\nfrom tests.simulation.world import World\n"
        f"with quiet():\n    world = World({seed}, hours=0.5)\n    world.live()\nprint(world.digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", story],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
