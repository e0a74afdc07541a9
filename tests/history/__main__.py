"""Look at a saved history again: `python -m tests.history check FILE...`, `python -m tests.history show FILE RUN`."""

from __future__ import annotations

import argparse
import pathlib
import sys

from tests.history.checker import check, tally
from tests.history.lines import History, Line, short

# Of a row, what its run's story needs.
COLUMNS = {
    "runs": ("state", "reason", "lease_epoch", "exit_code", "kill_confirmed", "cancel_requested_at", "settled_at"),
    "attempts": ("lease_epoch", "state", "reason", "exit_code", "kill_confirmed", "log_bytes", "log_complete", "gaps"),
    "run_events": ("number", "type", "lease_epoch", "reason", "note", "actor"),
}
LEFT_OUT = {"what", "run", "mono", "boot", "began", "ended", "table", "run_id"}


def _check(paths: list[pathlib.Path]) -> int:
    red = 0
    for path in paths:
        history = History.load(path)
        violations = check(history)
        red += bool(violations)
        print(f"{path}: {tally(history)}")
        for violation in violations:
            print(f"  {violation}")
    return 1 if red else 0


def _show(path: pathlib.Path, run: str) -> int:
    """Everything about the run whose id ends so, by time; what has no time comes last."""
    history = History.load(path)
    names = {row["id"] for row in history.runs()} | {line["run"] for line in history.of("truth")}
    chosen = [name for name in names if name.endswith(run)]
    if len(chosen) != 1:
        print(f"{len(chosen)} runs end in {run!r}", file=sys.stderr)
        return 1
    about = history.of("about")
    shift = about[0]["wall"] - about[0]["mono"] if about else 0.0
    mine = [line for line in history.lines if chosen[0] in (line.get("run"), line.get("run_id"), line.get("id"))]
    mine += [line for line in history.of("fault") if not line.get("run")]
    timed = sorted(((_at(line, shift), line.number, line) for line in mine), key=lambda item: item[:2])
    began = timed[0][0] if timed else 0.0
    for at, number, line in timed:
        when = "" if at == float("inf") else f"{at - began:10.3f}"
        print(f"{when:>10} {number:6} {_said(line)}")
    return 0


def _at(line: Line, shift: float) -> float:
    """Wall-clock seconds."""
    if line.what == "row":
        at = line.get("at") if line["table"] == "run_events" else None
        return float("inf") if at is None else at / 1e6
    mono = line.get("ended", line.get("mono"))
    return float("inf") if mono is None else mono + shift


def _said(line: Line) -> str:
    if line.what == "row":
        wanted = COLUMNS.get(line["table"])
        fields = {name: line.get(name) for name in wanted} if wanted else dict(line.fields)
        name = f"{line['table']}"
    else:
        fields, name = dict(line.fields), line.what
    shown = []
    for key, value in fields.items():
        if key not in LEFT_OUT and value not in (None, "", [], {}):
            shown.append(f"{key}={short(value) if key in ('epoch', 'lease_epoch') else value}")
    return f"{name:12} {' '.join(shown)}"


def main() -> int:
    """Parse and do."""
    parser = argparse.ArgumentParser(prog="python -m tests.history", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check", help="check saved histories").add_argument("files", nargs="+", type=pathlib.Path)
    show = verbs.add_parser("show", help="one run's story")
    show.add_argument("file", type=pathlib.Path)
    show.add_argument("run", help="its id, or how it ends")
    given = parser.parse_args()
    return _check(given.files) if given.verb == "check" else _show(given.file, given.run)


if __name__ == "__main__":
    sys.exit(main())
