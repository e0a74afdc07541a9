"""How the bench judges: verdicts, the honest floor, exit statuses, and the page that shows a run."""

from __future__ import annotations

import pathlib
from dataclasses import replace
from typing import Any

import pytest

from tests.bench import floor_checks
from tests.bench.__main__ import status
from tests.bench.conduct import Outcome
from tests.bench.machine import REFERENCE
from tests.bench.registry import Figure, Limits, Measurement, Round
from tests.bench.results import Results, Verdict, as_json, judge, read, rows
from tests.bench.tables import BEGIN, END, missed, text, write_into

SLOWER = Figure(name="lag", label="lag", unit="ms", ratio=3, bound=20)
FASTER = Figure(name="runs", label="runs", unit="/s", more_is_better=True, ratio=0.45, first=0.3)
SHOWN = Figure(name="size", label="size", unit="MiB")


async def nothing(round: Round) -> None:
    """Records nothing."""


def outcome(*figures: Figure, **fields: Any) -> Outcome:
    about = Measurement(name="m", says="m", once=nothing, figures=figures, limits=Limits(full=60))
    made = Outcome(measurement=about, repetitions=3, limit_s=60, **fields)
    return made


def results(*verdicts: Verdict, honest: bool = True) -> Results:
    figures: list[dict[str, Any]] = [{"verdict": verdict} for verdict in verdicts]
    floor = [{"honest": True}, {"honest": honest}]
    return Results(date="d", commit="c", effort="full", machine={}, floor=floor, figures=figures)


@pytest.mark.parametrize(
    ("figure", "value", "ratio", "verdict"),
    [
        (SLOWER, 20.0, 3.0, Verdict.MET),
        (SLOWER, 20.1, 1.0, Verdict.MISSED),
        (SLOWER, 1.0, 3.1, Verdict.MISSED),
        (SLOWER, 1.0, None, Verdict.NOT_MEASURED),
        (FASTER, 100.0, 0.45, Verdict.MET),
        (FASTER, 100.0, 0.44, Verdict.PARTLY),
        (FASTER, 100.0, 0.29, Verdict.MISSED),
        (replace(SLOWER, ratio=None), 20.0, None, Verdict.MET),
        (SHOWN, 1e9, None, Verdict.SHOWN),
    ],
)
def test_both_goals_bind(figure: Figure, value: float, ratio: float | None, verdict: Verdict) -> None:
    assert judge(figure, value, ratio) is verdict


def test_the_median_is_judged_and_the_spread_is_shown() -> None:
    found = outcome(SLOWER, values={"lag": [12.0, 9.0, 30.0]}, bases={"lag": [4.0, 5.0, 3.0]})
    (row,) = rows(found)
    assert row.verdict is Verdict.MET
    assert row.ratio == 3.0
    assert "12 (9–30)" in text(as_json([row]))
    assert "4 (3–5)" in text(as_json([row]))


def test_too_few_repetitions_are_not_measured() -> None:
    (row,) = rows(outcome(SHOWN, values={"size": [1.0, 2.0]}, trouble="out of time after 60 s"))
    assert row.verdict is Verdict.NOT_MEASURED
    assert row.why == "out of time after 60 s"


def test_the_floor_is_held_against_what_the_machine_lets_expect() -> None:
    twice = replace(REFERENCE, cpu_mb_per_s=72, spawn_ms=1.314, sync_ms=0.502, disk_mb_per_s=177)
    floor = {"dispatch p50": [2.77 * 2], "runs 8": [712 / 2], "log 0": [181 * 0.79]}
    for before, after in ((twice, REFERENCE), (REFERENCE, twice)):
        found = {check.figure: check for check in floor_checks.checks(floor, before, after)}
        assert found["dispatch p50"].speed == pytest.approx(1)
        assert found["runs 8"].speed == pytest.approx(1)
        assert found["log 0"].speed == pytest.approx(0.79)
        assert [check.honest for check in found.values()] == [True, True, False]


def test_the_shares_of_a_reference_are_all_of_it() -> None:
    assert all(sum(reference.shares.values()) == pytest.approx(1) for reference in floor_checks.REFERENCES)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (results(Verdict.MET, Verdict.SHOWN), 0),
        (results(Verdict.MET, Verdict.PARTLY), 1),
        (results(Verdict.MISSED, Verdict.MET), 1),
        (results(Verdict.MISSED, Verdict.NOT_MEASURED), 2),
        (results(), 2),
        (results(Verdict.NOT_MEASURED, honest=False), 3),
    ],
)
def test_the_exit_status_tells_the_worst(found: Results, expected: int) -> None:
    assert status(found) == expected


def test_a_page_takes_the_table_of_a_file(tmp_path: pathlib.Path) -> None:
    made = Results(date="2026-01-01", commit="abc", effort="full", took_s=600.0, machine={"cores": "2"})
    made.calibration = {"reference": {"cpu": 1.0}, "before": {"cpu": 2.0}, "after": {"cpu": 3.0}}
    found = outcome(SLOWER, values={"lag": [12.0, 9.0, 30.0]}, bases={"lag": [4.0, 5.0, 3.0]})
    made.figures, made.floor = as_json(rows(found)), [{"words": "floor, lag: honest"}]
    made.measurements = [{"name": "m", "notes": ["on a quiet machine"]}]
    made.write(tmp_path / "results.json")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        write_into(page, read(tmp_path / "results.json"))
        shown = page.read_text()
        assert shown.startswith(f"before\n{BEGIN}\n")
        assert shown.endswith(f"{END}\nafter\n")
        assert "old" not in shown
        assert "| lag | ms | 12 (9–30) | 4 (3–5) | 3.00 | ≤ 3 × floor, ≤ 20 ms | met |" in shown
        assert "- m: on a quiet machine." in shown


def test_what_was_missed_is_listed_with_what_was_reached() -> None:
    found = outcome(SLOWER, FASTER, values={"lag": [40.0, 41.0, 42.0]}, trouble="out of time after 60 s")
    lines = missed(as_json(rows(found)))
    assert lines == [
        "- MISSED: lag: 41 ms; goal ≤ 3 × floor, ≤ 20 ms.",
        "- NOT MEASURED: runs: out of time after 60 s; goal ≥ 0.3, then 0.45 × floor.",
    ]


def test_an_older_file_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "old.json").write_text('{"figures": []}')
    with pytest.raises(ValueError, match="measure anew"):
        read(tmp_path / "old.json")
