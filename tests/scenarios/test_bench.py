"""The measurements measure: each figure is found for the floor and for the product."""

from __future__ import annotations

import pathlib
from collections import defaultdict

from tests.bench import figures
from tests.bench.__main__ import GOALS, Values, rows, run, table


async def test_each_figure_is_measured_on_both_systems(tmp_path: pathlib.Path) -> None:
    effort = figures.Effort(repetitions=1, dispatches=2, runs=8, log_bytes=1_000_000, cancels=2)
    values: Values = defaultdict(lambda: defaultdict(list))
    peaks = await run(effort, tmp_path, values, limit_s=120)
    made = rows(values)
    assert [row["key"] for row in made] == [goal.key for goal in GOALS]
    assert all(goal.label in table(made, values) for goal in GOALS)
    assert set(peaks) == {"floor", "banksman"}
