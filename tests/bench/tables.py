"""Tables for the terminal and for docs/performance.md, both made from what the file of results holds."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from tests.bench.results import Verdict, number

HEAD = ("figure", "unit", "Banksman", "held against", "ratio", "goal", "verdict")
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    base = _spread(row["base"])
    if row["base"] is not None and row["base_is"] != "floor":
        base = f"{row['base_is']}: {base}"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    return (row["label"], row["unit"], _spread(row["value"]), base, ratio, row["goal"], row["verdict"])


def _spread(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["least"] == found["most"]:
        return number(found["median"])
    return f"{number(found['median'])} ({number(found['least'])}–{number(found['most'])})"


def text(figures: Iterable[Mapping[str, Any]]) -> str:
    """Columns side by side: medians, with the lowest and the highest repetition in brackets."""
    lines = [HEAD, *(cells(row) for row in figures)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEAD))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([shown[0], "  ".join("-" * width for width in widths), *shown[1:]])


def markdown(results: Mapping[str, Any]) -> str:
    """Machine, date, table and notes, as docs/performance.md shows them."""
    machine = results["machine"]
    lines = [
        f"Measured {results['date']} at commit {results['commit']}, effort {results['effort']}, in "
        f"{results['took_s'] / 60:.0f} minutes; medians, with the lowest and the highest repetition in brackets.",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()) + ".",
        "",
        *_calibration(results["calibration"]),
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
    ]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in results["figures"]]
    lines += ["", *(f"- {check['words']}." for check in results["floor"])]
    lines += missed(results["figures"])
    for measured in results["measurements"]:
        lines += [f"- {measured['name']}: {note}." for note in measured["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def missed(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each goal that was not reached, with what was."""
    lines = []
    for row in figures:
        if row["verdict"] in (Verdict.MISSED, Verdict.PARTLY, Verdict.NOT_MEASURED):
            reached = [] if row["value"] is None else [f"{number(row['value']['median'])} {row['unit']}"]
            reached += [] if row["ratio"] is None else [f"{row['ratio']:.2f} × {row['base_is']}"]
            reached += [row["why"]] if row["why"] else []
            label = row["label"] if not row["label"].startswith("…") else f"{row['name']} ({row['label']})"
            lines.append(f"- {row['verdict']}: {label}: {', '.join(reached)}; goal {row['goal']}.")
    return lines


def _calibration(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    parts = list(found["reference"])
    lines = ["| the machine | " + " | ".join(parts) + " |", "|---|" + "---|" * len(parts)]
    for when, values in found.items():
        lines.append(
            f"| {when} | " + " | ".join(number(values[part]) if part in values else "" for part in parts) + " |"
        )
    return lines


def write_into(page: pathlib.Path, results: Mapping[str, Any]) -> None:
    """Replace what stands between the two marks in the page."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n{markdown(results)}{END}{after}")
