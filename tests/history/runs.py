"""Invariants 1 to 4 and 6: fences, overlaps, terminal states, cancels, and undisturbed children."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator

from tests.history.lines import TERMINAL, History, Line, Violation, numbers, short

LIVE = frozenset({"OFFERED", "STARTING", "RUNNING", "STOPPING"})
# Written in every state, by evidence.
EVIDENCE = frozenset({"EVIDENCE_ADDED", "SETTLED", "STOP_PROGRESSED"})
CANCELS = frozenset({"USER_CANCEL", "SUPERSEDED", "TASK_DELETED", "FORCED"})
QUEUED_AGAIN = frozenset({"OFFERED", "ACCEPTED", "RETURNED", "WILL_RETRY"})


def fences(history: History) -> Iterator[Violation]:
    """1. One valid fence per run; epochs only grow; every state write carries the current one."""
    for row in history.runs():
        run, current = row["id"], 0
        for event in history.rows("run_events", run):
            epoch = event["lease_epoch"]
            if event["type"] == "OFFERED":
                if epoch <= current:
                    yield _wrong(1, row, f"offered under {short(epoch)} after {short(current)}", event)
                current = max(current, epoch)
            elif event["type"] not in EVIDENCE and epoch != current:
                yield _wrong(1, row, f"{event['type']} under {short(epoch)}, the fence was {short(current)}", event)
        attempts = history.rows("attempts", run)
        live = [each for each in attempts if each["state"] in LIVE]
        if len(live) > 1 or any(each["lease_epoch"] != row["lease_epoch"] for each in live):
            yield _wrong(1, row, "a live attempt beside the run's fence", *live)
        if any(each["lease_epoch"] > row["lease_epoch"] for each in attempts):
            yield _wrong(1, row, "an attempt above the run's fence", *attempts)
        assigned = {each["lease_epoch"] for each in attempts if each["assigned_at"] is not None}
        for line in history.of("truth", run):
            if line["epoch"] not in assigned:
                yield _wrong(1, row, f"its program ran under {short(line['epoch'])}, which nobody was assigned", line)


def overlaps(history: History) -> Iterator[Violation]:
    """2. Processes of two attempts never overlap, and no step of an attempt runs twice."""
    for run in {line["run"] for line in history.of("truth")}:
        said = history.of("truth", run)
        starts: dict[tuple[int, int], list[Line]] = defaultdict(list)
        for line in said:
            if line["word"] == "start":
                starts[line["epoch"], line["step"]].append(line)
        for (epoch, step), lines in starts.items():
            if len(lines) > 1:
                text = f"step {step} ran {len(lines)} times"
                yield Violation(invariant=2, run=run, epoch=epoch, text=text, lines=numbers(*lines))
        if history.excused(run, "overlap"):
            continue
        for line in said:
            if line["word"] == "overlap":
                text = f"it saw processes of another attempt: {', '.join(line['others'])}"
                yield Violation(invariant=2, run=run, epoch=line["epoch"], text=text, lines=numbers(line))
        yield from _overlaps_in_time(run, said)


def _overlaps_in_time(run: str, said: list[Line]) -> Iterator[Violation]:
    """By the signs of life alone; one machine, so one CLOCK_BOOTTIME."""
    lives: dict[int, list[Line]] = defaultdict(list)
    for line in said:
        lives[line["epoch"]].append(line)
    spans = []
    for lines in lives.values():
        ordered = sorted(lines, key=lambda line: line["boot"])
        spans.append((ordered[0], ordered[-1]))
    spans.sort(key=lambda span: span[0]["boot"])
    for (first, last), (later, _) in itertools.pairwise(spans):
        if later["boot"] < last["boot"]:
            text = f"attempt {short(first['epoch'])} gave a sign of life after attempt {short(later['epoch'])} began"
            yield Violation(invariant=2, run=run, epoch=later["epoch"], text=text, lines=numbers(last, later))


def terminal_states(history: History) -> Iterator[Violation]:
    """3. Terminal states never change; every terminal run has one terminal event and a reason."""
    for row in history.runs():
        events = history.rows("run_events", row["id"])
        ends = [at for at, event in enumerate(events) if event["type"] in TERMINAL]
        if len(ends) != (row["state"] in TERMINAL):
            yield _wrong(3, row, f"{row['state']} with {len(ends)} terminal events", *(events[at] for at in ends))
        if row["state"] in TERMINAL:
            if not row["reason"]:
                yield _wrong(3, row, f"{row['state']} without a reason")
            if row["completed_at"] is None or row["completed_at"] < (row["started_at"] or 0):
                yield _wrong(3, row, "completed before it was started, or never")
        for at in ends[:1]:
            if (events[at]["type"], events[at]["reason"]) != (row["state"], row["reason"]):
                yield _wrong(3, row, f"{row['state']} {row['reason']}, its event says otherwise", events[at])
            late = [event for event in events[at + 1 :] if event["type"] not in EVIDENCE]
            if late:
                yield _wrong(3, row, f"{late[0]['type']} after its end", *late)
        for call in history.of("call", row["id"]):
            seen = call["answer"]
            if seen["state"] in TERMINAL and (seen["state"], seen["reason"]) != (row["state"], row["reason"]):
                text = f"{seen['state']} {seen['reason']} was shown, then {row['state']} {row['reason']}"
                yield _wrong(3, row, text, call)


def cancels(history: History) -> Iterator[Violation]:
    """4. A cancel answered OK is durable and final; kill_confirmed means that nothing of the tree lives."""
    for row in history.runs():
        asked = [call for call in history.of("call", row["id"]) if call["method"] == "CancelRun"]
        if asked and row["cancel_requested_at"] is None:
            yield _wrong(4, row, "its cancel was answered OK and is not stored", *asked)
        events = history.rows("run_events", row["id"])
        first = next((at for at, event in enumerate(events) if _is_cancel(event)), None)
        if (first is not None or asked) and row["state"] not in ("CANCELLED", "CANCELLING"):
            yield _wrong(4, row, f"cancelled, and now {row['state']}", *asked)
        if first is not None:
            again = [event for event in events[first:] if event["type"] in QUEUED_AGAIN]
            if again:
                yield _wrong(4, row, f"{again[0]['type']} after the cancel", *again)
        yield from _confirmations(history, row)


def _is_cancel(event: Line) -> bool:
    return event["type"] == "STOP_REQUESTED" and event["reason"] in CANCELS


def _confirmations(history: History, row: Line) -> Iterator[Violation]:
    """What was said to be dead, against locks and later signs of life."""
    attempts = [each for each in history.rows("attempts", row["id"]) if each["assigned_at"] is not None]
    if row["kill_confirmed"] and not all(each["kill_confirmed"] for each in attempts):
        yield _wrong(4, row, "kill_confirmed, though not of every attempt", *attempts)
    for proof in history.of("proof", row["id"]):
        if proof["alive"]:
            yield _wrong(4, row, f"kill_confirmed while {', '.join(proof['alive'])} is held", proof)
        later = [
            line
            for line in history.of("truth", row["id"])
            if line["epoch"] == proof["epoch"] and line["mono"] > proof["mono"]
        ]
        if later:
            yield _wrong(4, row, f"a sign of life ({later[0]['word']}) after kill_confirmed", proof, *later)


def children(history: History) -> Iterator[Violation]:
    """6. Children are not disturbed, steps keep their order, exit statuses are recovered."""
    for row in history.runs():
        plans = next((line["plans"] for line in history.of("submitted", row["id"])), None)
        by_epoch: dict[int, list[Line]] = defaultdict(list)
        for line in history.of("truth", row["id"]):
            by_epoch[line["epoch"]].append(line)
        for lines in by_epoch.values():
            yield from _steps(row, lines)
            yield from _disturbed(history, row, lines)
        if plans is not None:
            yield from _end(history, row, plans, by_epoch)


def _steps(row: Line, said: list[Line]) -> Iterator[Violation]:
    """Each step begins after the one before has said its last word."""
    begun = [line["step"] for line in said if line["word"] == "start"]
    if begun != sorted(begun) or (begun and sorted(set(begun)) != list(range(max(begun) + 1))):
        yield _wrong(6, row, f"its steps began in the order {begun}", *said)
    done = -1
    for line in said:
        if line["word"] == "start" and line["step"] > done + 1:
            yield _wrong(6, row, f"step {line['step']} began before step {line['step'] - 1} was over", line)
        if line["word"] == "stop":
            done = max(done, line["step"])


def _disturbed(history: History, row: Line, said: list[Line]) -> Iterator[Violation]:
    epoch = said[0]["epoch"]
    attempt = next((each for each in history.rows("attempts", row["id"]) if each["lease_epoch"] == epoch), None)
    stopped = attempt is None or attempt["stop"] is not None or row["cancel_requested_at"] is not None
    if stopped or shim_died(history, row["id"]) or history.excused(row["id"], "signal"):
        return
    for line in said:
        if line["word"] in ("signal", "broken"):
            yield _wrong(6, row, f"its program says {line['word']}, and nobody stopped it", line)


def _end(history: History, row: Line, plans: list[dict], by_epoch: dict[int, list[Line]]) -> Iterator[Violation]:
    codes = [plan["code"] for plan in plans]
    at = next((number for number, code in enumerate(codes) if code), len(codes) - 1)
    last = [line for line in by_epoch.get(max(by_epoch, default=0), []) if line["word"] == "stop"]
    if row["state"] in ("SUCCEEDED", "FAILED"):
        wanted = "FAILED" if codes[at] else "SUCCEEDED"
        if (row["state"], row["exit_code"]) != (wanted, codes[at]):
            yield _wrong(6, row, f"{row['state']} with exit code {row['exit_code']}, its program left with {codes[at]}")
        if [line["step"] for line in last] != list(range(at + 1)):
            yield _wrong(
                6, row, f"{row['state']}, but the steps that ended are {[line['step'] for line in last]}", *last
            )
    elif row["state"] == "LOST" and not shim_died(history, row["id"]) and not history.excused(row["id"], "lost"):
        yield _wrong(6, row, f"LOST ({row['reason']}), though nothing that loses a run was done to it")
    elif row["state"] in ("TIMED_OUT", "EXPIRED", "SKIPPED") and not history.excused(row["id"], "end"):
        yield _wrong(6, row, f"{row['state']} ({row['reason']}), which nothing asked for")
    allowed = next((line.get("max_attempts", 1) for line in history.of("submitted", row["id"])), 1)
    free = shim_died(history, row["id"]) or history.excused(row["id"], "attempts")
    if len(by_epoch) > allowed and not free:
        yield _wrong(6, row, f"it ran in {len(by_epoch)} attempts, {allowed} were asked for", *last)


def shim_died(history: History, run: str) -> bool:
    """Did the test kill the shim of this run, or every shim?"""
    return any(line["kind"] == "shim" and line.get("run") in (None, run) for line in history.of("fault"))


def gaps_of(attempt: Line) -> list[dict]:
    """The attempt's gap records as they are stored."""
    return list(json.loads(attempt["gaps"] or "[]"))


def _wrong(invariant: int, row: Line, text: str, *lines: Line) -> Violation:
    epoch = lines[-1].get("lease_epoch") or lines[-1].get("epoch") or 0 if lines else 0
    return Violation(invariant=invariant, run=row["id"], epoch=epoch, text=text, lines=numbers(row, *lines))
