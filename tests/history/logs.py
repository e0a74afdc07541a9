"""Invariant 5: every byte is readable in order or covered by a gap record; what was served never changes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.history.lines import TERMINAL, History, Line, Violation, numbers
from tests.history.runs import gaps_of, shim_died


def logs(history: History) -> Iterator[Violation]:
    """5. Every byte that the children wrote is there, in order, once; segments, lengths and digests agree."""
    for row in history.runs():
        for attempt in history.rows("attempts", row["id"]):
            if attempt["assigned_at"] is not None:
                yield from _streams(history, attempt)
                yield from _whole(history, row, attempt)
                yield from _segments(history, attempt)
        for served in history.of("served", row["id"]):
            if served["sha256"] != served["later"]:
                text = f"the first {served['bytes']} bytes were served once and changed since"
                yield _wrong(served["run"], served["epoch"], text, served)
        events = [event["type"] for event in history.rows("run_events", row["id"])]
        if "SETTLED" in events and not TERMINAL & set(events[: events.index("SETTLED")]):
            yield _wrong(row["id"], 0, "settled before it was over", row)


def _streams(history: History, attempt: Line) -> Iterator[Violation]:
    run, epoch = attempt["run_id"], attempt["lease_epoch"]
    excused = shim_died(history, run) or history.excused(run, "log")
    gap_bytes = sum(gap["to_offset"] - gap["from_offset"] for gap in gaps_of(attempt))
    for (step, stream), kept in sorted(streams_of(history, run, epoch).items()):
        log, lines = kept.log, numbers(*kept.lines())
        if log is None and excused:
            continue
        if log is None:
            yield _wrong(run, epoch, f"step {step} wrote {kept.least} bytes to {stream}; none were read", *kept.lines())
        elif gap_bytes == 0 and log["same"] != log["bytes"]:
            text = f"step {step}, {stream}: byte {log['same']} of {log['bytes']} is not what was written"
            yield Violation(invariant=5, run=run, epoch=epoch, text=text, lines=lines)
        elif log["bytes"] + gap_bytes < kept.least and not excused:
            text = f"step {step}, {stream}: {log['bytes']} bytes are there, {kept.least} were written"
            yield Violation(invariant=5, run=run, epoch=epoch, text=text, lines=lines)
        elif kept.told is not None and log["bytes"] > kept.told[0]:
            text = f"step {step}, {stream}: {log['bytes']} bytes are there, only {kept.told[0]} were written"
            yield Violation(invariant=5, run=run, epoch=epoch, text=text, lines=lines)
        elif kept.told is not None and log["bytes"] == kept.told[0] and log["sha256"] != kept.told[1]:
            text = f"step {step}, {stream}: as many bytes as were written, but others"
            yield Violation(invariant=5, run=run, epoch=epoch, text=text, lines=lines)


@dataclass(slots=True, kw_only=True)
class Stream:
    """One stream of a step: what the program wrote at least, its own last word, and what was read."""

    least: int = 0
    told: list | None = None
    log: Line | None = None
    stop: Line | None = None
    wrote: Line | None = None

    def lines(self) -> list[Line]:
        return [line for line in (self.wrote, self.stop, self.log) if line is not None]


def streams_of(history: History, run: str, epoch: int) -> dict[tuple[int, str], Stream]:
    """By (step, stream), all of an attempt that wrote anything or was read."""
    found: dict[tuple[int, str], Stream] = defaultdict(Stream)
    for line in history.of("wrote", run):
        for stream in ("out", "err"):
            if line["epoch"] == epoch and line[stream]:
                kept = found[line["step"], stream]
                kept.wrote, kept.least = line, max(kept.least, line[stream])
    for line in history.of("truth", run, "stop"):
        for stream in ("out", "err"):
            if line["epoch"] == epoch and line[stream][0]:
                kept = found[line["step"], stream]
                kept.stop, kept.told, kept.least = line, line[stream], line[stream][0]
    for line in history.of("log", run):
        if line["epoch"] == epoch:
            found[line["step"], line["stream"]].log = line
    return found


def _whole(history: History, row: Line, attempt: Line) -> Iterator[Violation]:
    """The log read in one go against the attempt's own row."""
    run, epoch = attempt["run_id"], attempt["lease_epoch"]
    excused = shim_died(history, run) or history.excused(run, "log")
    for whole in history.of("log_whole", run):
        if whole["epoch"] != epoch:
            continue
        if not whole["contiguous"]:
            yield _wrong(run, epoch, "the offsets that were read do not follow one another", whole)
        if attempt["log_sealed_at"] is None:
            continue
        if (whole["bytes"], whole["digest"]) != (attempt["log_bytes"], attempt["log_digest"]):
            yield _wrong(run, epoch, "length or digest of what was read is not what was sealed", whole, attempt)
        if not attempt["log_complete"] and not excused:
            yield _wrong(run, epoch, "its log is sealed incomplete", whole, attempt)
    if row["settled_at"] is not None and attempt["log_sealed_at"] is None:
        yield _wrong(run, epoch, "the run has settled, this attempt's log is not sealed", row, attempt)


def _segments(history: History, attempt: Line) -> Iterator[Violation]:
    mine = [
        line
        for line in history.rows("log_segments", attempt["run_id"])
        if line["lease_epoch"] == attempt["lease_epoch"]
    ]
    mine.sort(key=lambda line: line["number"])
    edges = [(line["first_offset"], line["end_offset"]) for line in mine]
    broken = any(first[1] != second[0] for first, second in itertools.pairwise(edges))
    if broken or (edges and edges[0][0] != 0):
        yield _wrong(attempt["run_id"], attempt["lease_epoch"], "its segments do not follow one another", *mine)
    sealed = attempt["log_sealed_at"] is not None and attempt["log_deleted_at"] is None
    if sealed and edges and edges[-1][1] != attempt["log_bytes"]:
        text = f"its segments end at {edges[-1][1]}, its log at {attempt['log_bytes']}"
        yield _wrong(attempt["run_id"], attempt["lease_epoch"], text, *mine)


def _wrong(run: str, epoch: int, text: str, *lines: Line) -> Violation:
    return Violation(invariant=5, run=run, epoch=epoch, text=text, lines=numbers(*lines))
