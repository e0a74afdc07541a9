"""The measurements measure: what is registered fits the time; each figure is found for the floor and the product."""

from __future__ import annotations

import pathlib

from tests.bench.conduct import TOTAL_S, conduct
from tests.bench.measures import load
from tests.bench.registry import Effort
from tests.bench.results import Verdict, as_json, rows
from tests.bench.tables import text

# Limits are reached by what goes wrong: not all at once.
MOST_S = 1.1 * TOTAL_S[Effort.FULL]


def test_the_measurements_fit_their_time() -> None:
    known = load().values()
    assert sum(measurement.limits.full for measurement in known) <= MOST_S
    assert sum(measurement.limits.quick or 0 for measurement in known) <= TOTAL_S[Effort.QUICK]
    assert all(measurement.repetitions >= 3 for measurement in known)


async def test_each_figure_is_measured_on_both_systems(tmp_path: pathlib.Path) -> None:
    known = load()
    measurements = [known["dispatch"], known["runs"], known["cancel"]]
    found = [row async for outcome in conduct(measurements, Effort.TINY, tmp_path) for row in rows(outcome)]
    assert [row.name for row in found] == [figure.name for one in measurements for figure in one.figures]
    assert not [row for row in found if row.verdict is Verdict.NOT_MEASURED]
    assert not [row for row in found if row.goal != "–" and "floor" in row.goal and row.base is None]
    assert all(row.label in text(as_json(found)) for row in found)
