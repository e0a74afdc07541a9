"""Hold a history against everything that must always hold, and sum up what it proves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.history.lines import History, Violation
from tests.history.logs import logs, streams_of
from tests.history.runs import cancels, children, fences, overlaps, shim_died, terminal_states
from tests.history.store import durability, firings, memory, request_ids, secrets

INVARIANTS: Mapping[int, Callable[[History], Iterator[Violation]]] = {
    1: fences,
    2: overlaps,
    3: terminal_states,
    4: cancels,
    5: logs,
    6: children,
    7: firings,
    8: request_ids,
    9: durability,
    10: memory,
    11: secrets,
}


def check(history: History) -> list[Violation]:
    """Everything that does not hold."""
    return [violation for invariant in INVARIANTS.values() for violation in invariant(history)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a history is about, in numbers."""

    runs: int
    attempts_that_ran: int
    bytes_written: int
    # Not read although written, or read although not written (so), over all streams whose shim lived.
    bytes_wrong: int
    overlaps: int
    confirmed: int
    false_confirmed: int
    cancels: int
    firings: int
    request_ids: int
    read_while_running: int

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.attempts_that_ran} attempts that ran, {self.bytes_written:,} bytes written, "
            f"{self.bytes_wrong} lost or repeated, {self.overlaps} overlaps, {self.cancels} cancels, "
            f"{self.false_confirmed} of {self.confirmed} kill_confirmed false, {self.firings} firings, "
            f"{self.request_ids} request ids, {self.read_while_running} logs read while they grew"
        )


def tally(history: History) -> Tally:
    """Count it."""
    ran = sorted({(line["run"], line["epoch"]) for line in history.of("truth")})
    written = wrong = 0
    for run, epoch in ran:
        for stream in streams_of(history, run, epoch).values():
            written += stream.least
            read = 0 if stream.log is None else stream.log["bytes"]
            same = 0 if stream.log is None else stream.log["same"]
            wrong += read - same
            if not shim_died(history, run) and not history.excused(run, "log"):
                wrong += max(0, stream.least - same)
    proofs = history.of("proof")
    return Tally(
        runs=len(history.rows("runs")),
        attempts_that_ran=len(ran),
        bytes_written=written,
        bytes_wrong=wrong,
        overlaps=sum(1 for _ in overlaps(history)),
        confirmed=len(proofs),
        false_confirmed=sum(1 for violation in cancels(history) if "kill_confirmed" in violation.text),
        firings=len(history.rows("firings")),
        request_ids=len(history.rows("request_ids")),
        read_while_running=len(history.of("served")),
        cancels=sum(call["method"] == "CancelRun" and call["code"] == "OK" for call in history.of("call")),
    )
