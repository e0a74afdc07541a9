"""What a shim tells, as the events that decisions are made on."""

from __future__ import annotations

from runner_agent.domain import events
from runner_agent.domain.ids import AttemptKey
from runner_agent.execution.journal import Notes
from runner_agent.execution.shim_link import (
    Exited,
    Progress,
    ShimEvent,
    Spooled,
    Started,
    StepEnded,
    StepKind,
    StopPhase,
)
from runner_agent.execution.translate import progress_of, report_of, step_report, stop_phase


def event_of(key: AttemptKey, event: ShimEvent, notes: Notes) -> events.Event | None:
    """None for what concerns nobody yet: later steps' starts, and what the exit record holds."""
    match event:
        case Started(step=step, pid=pid, at_ns=at_ns):
            return events.Started(key=key, pid=pid, at_ns=at_ns) if step == _first_main(notes) else None
        case StepEnded(record=record):
            if record.index == len(notes.step_kinds) - 1:
                return None  # the exit record follows at once and says the same
            return events.StepOver(key=key, step=step_report(record, notes.step_names))
        case Progress():
            return events.Progressed(key=key, progress=progress_of(event))
        case StopPhase(phase=phase, survivors=survivors, at_ns=at_ns):
            return events.StopMoved(key=key, phase=stop_phase(phase), survivors=survivors, at_ns=at_ns)
        case Spooled(offset=offset):
            return events.Spooled(key=key, offset=offset)
        case Exited(record=record):
            return events.Exited(key=key, report=report_of(record, notes.step_names))
        case _:
            return None


def _first_main(notes: Notes) -> int:
    return next((index for index, kind in enumerate(notes.step_kinds) if kind == StepKind.MAIN), 0)
