"""The figures that the fault tests measure: recorded with goal and verdict, shown as a table, kept as JSON."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

# Every figure that a whole run must measure, by the name under which a test records it.
WANTED = (
    "log bytes lost or repeated",
    "SIGKILLs of the agent",
    "SIGKILLs of the server",
    "log written, all kills",
    "least kills of a named phase",
    "overlaps, real partitions",
    "overlaps, simulated partitions",
    "lost runner shown disconnected, p99",
    "cancel to first signal, p99",
    "survivors after the ladder",
    "ladder beyond grace, worst",
    "false kill_confirmed",
    "run re-attached after an agent restart",
    "200 runners back after a server restart",
    "simulated hours a CPU minute",
    "simulated faults a CPU minute",
    "clock changes checked",
    "clock changes, cron differs",
    "bad input, calls",
    "bad input, violations",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value against its goal. `note` is free text: a distribution, the conditions."""

    name: str
    value: float
    unit: str = ""
    goal: str = ""
    ok: bool
    spread: str = ""
    note: str = ""
    test: str = ""

    @property
    def verdict(self) -> str:
        return "ok" if self.ok else "MISSED"


@dataclass(slots=True, kw_only=True)
class Figures:
    """What has been recorded so far; the same name may be recorded by several tests."""

    found: list[Figure] = field(default_factory=list)

    @property
    def missed(self) -> list[Figure]:
        return [figure for figure in self.found if not figure.ok]

    def absent(self) -> list[str]:
        """Names that a whole run must measure and that nobody recorded."""
        names = {figure.name for figure in self.found}
        return [name for name in WANTED if name not in names]

    def write(self, path: pathlib.Path, **more: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{**asdict(figure), "verdict": figure.verdict} for figure in self.found]
        path.write_text(json.dumps({**more, "figures": rows}, indent=1) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """The fixture `figures` of one test."""

    test: str
    figures: Figures
    _say: Callable[[str], None]

    def record(
        self,
        name: str,
        value: float,
        *,
        ok: bool,
        unit: str = "",
        goal: str = "",
        spread: str = "",
        note: str = "",
    ) -> None:
        """Keep one figure. A goal that is missed fails the whole run at its end, not this test."""
        figure = Figure(name=name, value=value, unit=unit, goal=goal, ok=ok, spread=spread, note=note, test=self.test)
        self.figures.found.append(figure)
        self.say(f"{name}: {shown(figure)} (goal {goal}): {figure.verdict}")

    def say(self, text: str) -> None:
        """Show progress at once, past pytest's capture."""
        self._say(text)


def shown(figure: Figure) -> str:
    value = f"{figure.value:,.0f}" if float(figure.value).is_integer() else f"{figure.value:,.3g}"
    return f"{value} {figure.unit}".strip()


def table(figures: Iterable[Figure], absent: Iterable[str] = ()) -> list[str]:
    """Lines for the terminal."""
    rows = [("figure", "value", "goal", "verdict", "spread")]
    rows += [(figure.name, shown(figure), figure.goal, figure.verdict, figure.spread) for figure in figures]
    rows += [(name, "-", "", "NOT MEASURED", "") for name in absent]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def spread(values: Iterable[float], digits: int = 3) -> str:
    """min/p50/p90/max in a few characters."""
    found = list(values)
    ranks = (min(found), percentile(found, 0.5), percentile(found, 0.9), max(found))
    return "min/p50/p90/max " + "/".join(f"{value:.{digits}g}" for value in ranks) + f", n={len(found)}"
