"""What is found on disk at the agent's start, as held attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner_agent.domain.held import Held, Phase
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.execution.journal import Notes, read_notes
from runner_agent.execution.run_directory import Entry, Standing
from runner_agent.execution.translate import report_of
from runner_agent.shim.messages import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One attempt that an earlier agent has left. `live`: its shim is to be found again."""

    held: Held
    notes: Notes
    live: bool


def found_in(
    entries: Sequence[Entry], boot_id: str, notes_in: Callable[[Path], Notes] = read_notes
) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """The attempts, and a warning for each directory that does not even tell whose it was."""
    found: list[Found] = []
    warnings: list[str] = []
    for entry in entries:
        if _can_be_told(entry):
            found.append(_found(entry, boot_id, notes_in(entry.path)))
        else:
            warnings.append(f"{entry.path} is no run directory that can be read: {entry.message}")
    return tuple(found), tuple(warnings)


def _can_be_told(entry: Entry) -> bool:
    """Whether its key is one that the contract can carry: directories are named by whoever made them."""
    return bool(entry.run_id) and entry.run_id.isascii() and 0 < entry.epoch < 1 << 63


def _found(entry: Entry, boot_id: str, notes: Notes) -> Found:
    slots = entry.details.get("slots")
    report = None if entry.record is None else report_of(entry.record, notes.step_names)
    held = Held(
        key=AttemptKey(run_id=RunId(entry.run_id), lease_epoch=entry.epoch),
        phase=_phase(entry),
        slots=slots if isinstance(slots, int) and slots > 0 else 1,
        boot_id=notes.boot_id or boot_id,
        lost_after_s=notes.lost_after_s,
        grace_s=notes.grace_s,
        stop_signal=notes.stop_signal,
        exit=report,
        started_at_ns=None if report is None else report.started_at_ns,
        spooled_offset=0 if report is None else report.final_offset,
        message=entry.message,
        artifacts=notes.artifacts,
    )
    return Found(held=held, notes=notes, live=entry.standing is Standing.LIVE)


def _phase(entry: Entry) -> Phase:
    match entry.standing:
        case Standing.ACCEPTED:
            return Phase.ACCEPTED
        case Standing.LIVE:
            return Phase.FORKING
        case Standing.EXITED if entry.record is not None:
            return Phase.UNSTARTED if entry.record.outcome is Outcome.NOT_STARTED else Phase.EXITED
        case _:
            return Phase.QUARANTINED
