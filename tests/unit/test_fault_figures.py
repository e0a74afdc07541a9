"""The table of figures that the fault tests end with."""

from __future__ import annotations

import json
import pathlib

from tests.faults.figures import WANTED, Figure, Figures, Recorder, percentile, spread, table


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.01) == 1.0
    assert spread([1.0, 2.0, 3.0, 4.0]) == "min/p50/p90/max 1/2/4/4, n=4"


def test_what_nobody_measured_is_absent_and_what_was_missed_is_told() -> None:
    said: list[str] = []
    figures = Figures()
    recorder = Recorder(test="a", figures=figures, _say=said.append)
    recorder.record(WANTED[0], 0, goal="0", ok=True)
    recorder.record("another", 1.25, unit="s", goal="<= 1", ok=False, spread="1-2")
    assert figures.absent() == list(WANTED[1:])
    assert [figure.name for figure in figures.missed] == ["another"]
    assert said[1] == "another: 1.25 s (goal <= 1): MISSED"


def test_the_table_shows_value_goal_verdict_and_spread() -> None:
    rows = table([Figure(name="x", value=1_234_567, unit="bytes", goal="0", ok=False, spread="n=1")], ["y"])
    assert rows[2].split() == ["x", "1,234,567", "bytes", "0", "MISSED", "n=1"]
    assert rows[3].split() == ["y", "-", "NOT", "MEASURED"]


def test_figures_are_kept_as_json(tmp_path: pathlib.Path) -> None:
    figures = Figures(found=[Figure(name="x", value=2.0, ok=True, test="t")])
    figures.write(tmp_path / "new" / "f.json", absent=["y"])
    kept = json.loads((tmp_path / "new" / "f.json").read_text())
    assert kept["absent"] == ["y"]
    assert (kept["figures"][0]["name"], kept["figures"][0]["verdict"], kept["figures"][0]["test"]) == ("x", "ok", "t")
