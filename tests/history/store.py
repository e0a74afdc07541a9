"""Invariants 7 to 11: firings, request ids, what an OK means, memory, secrets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.history.lines import TERMINAL, History, Line, Violation, numbers

# Missed instants are counted up to here; past it a hole has no known length.
MISSED_CAP = 200


def firings(history: History) -> Iterator[Violation]:
    """7. One run per (schedule, origin, scheduled time); what was missed is counted, and nothing is left out."""
    runs = {row["id"]: row for row in history.runs()}
    fired: dict[str, Line] = {}
    for firing in history.rows("firings"):
        run = firing["run_id"]
        if run is None:
            if not firing["missed"]:
                yield _wrong(7, "a firing that made no run and missed none", firing)
        elif run not in runs:
            yield _wrong(7, f"it made run {run}, which is not there", firing)
        elif run in fired:
            yield _wrong(7, f"run {run} belongs to two firings", fired[run], firing)
        else:
            fired[run] = firing
            row = runs[run]
            if (row["schedule_id"], row["scheduled_time"]) != (firing["schedule_id"], firing["scheduled_time"]):
                yield _wrong(7, "its run says another schedule or time", firing, row)
    for run, row in runs.items():
        if row["schedule_id"] and row["retry_of"] is None and run not in fired:
            yield _wrong(7, "a schedule's run without a firing", row)
    keys: dict[tuple, Line] = {}
    for firing in history.rows("firings"):
        key = (firing["schedule_id"], firing["origin"], firing["scheduled_time"])
        if key in keys:
            yield _wrong(7, "the same instant fired twice", keys[key], firing)
        keys[key] = firing
    for schedule in history.rows("schedules"):
        yield from _regular(history, schedule)


def _regular(history: History, schedule: Line) -> Iterator[Violation]:
    """A schedule with a period: its instants follow one another, fired or counted as missed."""
    if not schedule["every_s"] or schedule["paused"] or schedule["updated_at"] != schedule["created_at"]:
        return
    period = round(schedule["every_s"] * 1e6)
    mine = [each for each in history.rows("firings") if each["schedule_id"] == schedule["id"]]
    mine = sorted((each for each in mine if each["origin"] == "SCHEDULE"), key=lambda each: each["scheduled_time"])
    expected = schedule["created_at"] + period
    for firing in mine:
        if firing["scheduled_time"] != expected:
            at = (firing["scheduled_time"] - expected) / 1e6
            yield _wrong(7, f"an instant is left out or invented: {at:+.3f} s from the next one", schedule, firing)
        missed = firing["missed"]
        if missed >= MISSED_CAP:
            return
        expected = firing["scheduled_time"] + period * max(1, missed)


def request_ids(history: History) -> Iterator[Violation]:
    """8. The same request_id gives the same resource, concurrently and after a restart."""
    given: dict[tuple[str, str], Line] = {}
    stored = {(row["method"], row["request_id"]): row for row in history.rows("request_ids")}
    for call in history.of("call"):
        request = call["request"].get("request_id", "")
        if not request or call["code"] != "OK" or not call.get("run"):
            continue
        key = (call["method"], request)
        first = given.setdefault(key, call)
        if first["run"] != call["run"]:
            yield _wrong(8, f"request id {request} gave {first['run']}, then {call['run']}", first, call)
        if key not in stored:
            yield _wrong(8, f"request id {request} was answered and is not stored", call)
        elif stored[key]["resource_id"] != call["run"]:
            yield _wrong(8, f"request id {request} is stored for {stored[key]['resource_id']}", call, stored[key])
    made = defaultdict(list)
    for line in history.of("submitted"):
        if line.get("request_id"):
            made[line["request_id"]].append(line)
    for request, lines in made.items():
        if len({line["run"] for line in lines}) > 1:
            yield _wrong(8, f"request id {request} made several runs", *lines)


def durability(history: History) -> Iterator[Violation]:
    """9. The database is whole, every OK'd answer is visible, and everything comes to its end by itself."""
    for line in history.of("integrity"):
        if line["found"] != ["ok"]:
            yield _wrong(9, f"the database is damaged: {line['found']}", line)
    runs = {row["id"]: row for row in history.runs()}
    for call in history.of("call"):
        if call["code"] == "OK" and call.get("run") and call["run"] not in runs:
            yield Violation(
                invariant=9, run=call["run"], text=f"{call['method']} was answered OK; no such run", lines=numbers(call)
            )
    for line in history.of("submitted"):
        if line["run"] not in runs:
            yield Violation(invariant=9, run=line["run"], text="submitted, and not there", lines=numbers(line))
    yield from _unfinished(history)
    for line in history.of("program"):
        if line["traceback"] or line["ended_by_itself"]:
            yield _wrong(9, f"{line['name']} ended by itself, or left a traceback", line)


def _unfinished(history: History) -> Iterator[Violation]:
    for row in history.runs():
        if history.excused(row["id"], "end"):
            continue
        if row["state"] not in TERMINAL:
            yield Violation(invariant=9, run=row["id"], text=f"still {row['state']}", lines=numbers(row))
        elif row["settled_at"] is None:
            yield Violation(invariant=9, run=row["id"], text="over, and never settled", lines=numbers(row))


def memory(history: History) -> Iterator[Violation]:
    """10. Memory is bounded."""
    for line in history.of("memory"):
        if line["peak_bytes"] > line["limit_bytes"]:
            yield _wrong(10, f"{line['name']} took {line['peak_bytes'] >> 20} MiB", line)


def secrets(history: History) -> Iterator[Violation]:
    """11. No secret in clear anywhere."""
    for line in history.of("secret"):
        yield _wrong(11, f"a secret in clear in {line['where']}", line)


def _wrong(invariant: int, text: str, *lines: Line) -> Violation:
    return Violation(invariant=invariant, text=text, lines=numbers(*lines))
