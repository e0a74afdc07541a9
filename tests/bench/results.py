"""The rows of the table: medians, spreads, ratios and verdicts; and the file that keeps them."""

from __future__ import annotations

import json
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from tests.bench.conduct import Outcome
from tests.bench.registry import Figure

VERSION = 2


class Verdict(StrEnum):
    MET = "met"
    PARTLY = "first goal met"
    MISSED = "MISSED"
    NOT_MEASURED = "NOT MEASURED"
    SHOWN = "–"  # has no goal


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The values of all repetitions in the order in which they were found."""

    values: list[float]
    median: float
    least: float
    most: float

    def words(self) -> str:
        if self.least == self.most:
            return number(self.median)
        return f"{number(self.median)} ({number(self.least)}–{number(self.most)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `base` is what it is held against, under the name `base_is`."""

    name: str
    measurement: str
    label: str
    unit: str
    value: Spread | None
    base: Spread | None
    base_is: str
    ratio: float | None
    goal: str
    verdict: Verdict
    why: str = ""


@dataclass(slots=True, kw_only=True)
class Results:
    """Everything that one call of the bench found; as it stands in the JSON file."""

    version: int = VERSION
    date: str
    commit: str
    effort: str
    took_s: float = 0.0
    machine: dict[str, str]
    calibration: dict[str, dict[str, float]] = field(default_factory=dict)
    floor: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: pathlib.Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def read(path: pathlib.Path) -> dict[str, Any]:
    """A file that Results.write has made. Raises ValueError for another version."""
    found: dict[str, Any] = json.loads(path.read_text())
    if found.get("version") != VERSION:
        raise ValueError(f"{path} is of version {found.get('version')}, this reads {VERSION}: measure anew")
    return found


def number(value: float) -> str:
    """Three digits that say something, with thousands set apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    found = list(values)
    return Spread(values=found, median=statistics.median(found), least=min(found), most=max(found))


def rows(outcome: Outcome) -> list[Row]:
    """A row for each figure of a measurement, also for those that were not found."""
    return [_row(outcome, figure) for figure in outcome.measurement.figures]


def _row(outcome: Outcome, figure: Figure) -> Row:
    value, base = spread(outcome.values.get(figure.name, ())), spread(outcome.bases.get(figure.name, ()))
    ratio = value.median / base.median if value and base and base.median else None
    verdict = Verdict.NOT_MEASURED
    if outcome.complete(figure.name) and value is not None:
        verdict = judge(figure, value.median, ratio)
    return Row(
        name=figure.name,
        measurement=outcome.measurement.name,
        label=figure.label,
        unit=figure.unit,
        value=value,
        base=base,
        base_is=figure.base,
        ratio=ratio,
        goal=figure.goal(),
        verdict=verdict,
        why=(outcome.trouble or "no value was recorded") if verdict is Verdict.NOT_MEASURED else "",
    )


def judge(figure: Figure, value: float, ratio: float | None) -> Verdict:
    """Both goals bind where there are two; a ratio that could not be formed is not measured."""
    if not figure.judged:
        return Verdict.SHOWN
    if figure.bound is not None and not figure.within(value, figure.bound):
        return Verdict.MISSED
    if figure.ratio is None:
        return Verdict.MET
    if ratio is None:
        return Verdict.NOT_MEASURED
    if figure.within(ratio, figure.ratio):
        return Verdict.MET
    return Verdict.PARTLY if figure.first is not None and figure.within(ratio, figure.first) else Verdict.MISSED


def as_json(made: Iterable[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in made]
