"""A history as lines: each says what it is, and the file's line number is its name in a violation.

what        | fields
about       | wall, mono (the same instant by both clocks), anything that explains the history
submitted   | run, plans (of its steps, in order), on_lost ("fail", "retry"), max_attempts
call        | method, request, code, began, ended (mono); where the answer was a run: run, answer (state, reason, ...)
fault       | kind, mono; run where it concerns one (kind "shim"), or all (run absent)
excuse      | run, of ("overlap", "lost", "log", "signal", "attempts"), why
truth       | word, run, epoch, step, pid, mono, boot, ...: what the run's own program appended
wrote       | run, epoch, step, out, err: bytes that the program had written at least
proof       | run, epoch, mono, alive: lock files still held after kill_confirmed had been read
log         | run, epoch, step, stream, bytes, sha256, same (bytes from the start as the program's plan has them)
log_whole   | run, epoch, bytes, digest, gaps, contiguous: the attempt's log read in one go
served      | run, epoch, bytes, sha256, later: a read while it ran; `later` is the same range read at the end
row         | table, and the columns
integrity   | found: what SQLite's integrity_check and foreign_key_check say
program     | name, traceback (bool), ended_by_itself (bool)
memory      | name, peak_bytes, limit_bytes
secret      | where: a secret that was found in clear
"""

from __future__ import annotations

import json
import pathlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "LOST", "CANCELLED", "EXPIRED", "SKIPPED"})


@dataclass(frozen=True, slots=True)
class Line:
    """One line; fields by subscript."""

    number: int
    what: str
    fields: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Something that must always hold did not: which of the invariants, of whom, and the lines that show it."""

    invariant: int
    text: str
    run: str = ""
    epoch: int = 0
    lines: tuple[int, ...] = ()

    def __str__(self) -> str:
        whom = f" run {self.run}" if self.run else ""
        whom += f" epoch {short(self.epoch)}" if self.epoch else ""
        seen = f" (lines {', '.join(map(str, self.lines[:12]))})" if self.lines else ""
        return f"[{self.invariant}]{whom}: {self.text}{seen}"


class History:
    """All lines, and the ways to find some."""

    def __init__(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self.lines = [Line(number, each["what"], each) for number, each in enumerate(lines, 1)]
        self._by_what: dict[str, list[Line]] = defaultdict(list)
        self._by_run: dict[tuple[str, str], list[Line]] = defaultdict(list)
        self._rows: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines:
            self._by_what[line.what].append(line)
            if line.what == "row":
                self._rows[line["table"]].append(line)
                run = line["id"] if line["table"] == "runs" else line.get("run_id")
                self._by_run[line["table"], run or ""].append(line)
            elif line.get("run"):
                self._by_run[line.what, line["run"]].append(line)
        for events in (lines for (table, _), lines in self._by_run.items() if table == "run_events"):
            events.sort(key=lambda event: event["number"])

    @classmethod
    def load(cls, path: pathlib.Path) -> History:
        with path.open() as file:
            return cls(json.loads(text) for text in file if text.strip())

    def of(self, what: str, run: str | None = None, *words: str) -> list[Line]:
        """Lines of this kind, of one run, of these words of truth."""
        found = self._by_what[what] if run is None else self._by_run[what, run]
        return [line for line in found if line["word"] in words] if words else found

    def rows(self, table: str, run: str | None = None) -> list[Line]:
        """A table's rows; run_events in the order of their commits."""
        return self._rows[table] if run is None else self._by_run[table, run]

    def runs(self) -> Iterator[Line]:
        """The rows of all runs."""
        yield from self._rows["runs"]

    def excused(self, run: str, of: str) -> bool:
        """Did the test do something to this run after which this is no violation?"""
        return any(line["of"] == of for line in self.of("excuse", run))


def short(epoch: int) -> str:
    """An epoch without its generation, where that is 0 or 1 as ever."""
    generation, count = divmod(epoch, 1 << 48)
    return str(count) if generation <= 1 else f"{generation}:{count}"


def numbers(*lines: Line) -> tuple[int, ...]:
    return tuple(line.number for line in lines)
