"""How one attempt is shown: its end, its steps, its stop and the proof that it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.cli.output import Cell, Span, State, when
from control_plane.cli.views import end_cause, exit_of, yes_no
from control_plane.cli.words import enum_word, state_word

if TYPE_CHECKING:
    from control_plane.cli.contract import run_pb2


def attempt_lines(attempt: run_pb2.Attempt) -> list[tuple[str, Cell]]:
    """One attempt, with its stop and the proof of its end."""
    started, ended = when(attempt, "started_at").at, when(attempt, "ended_at").at
    lines: list[tuple[str, Cell]] = [
        ("runner", attempt.runner_name or attempt.runner_id),
        ("state", State(state_word(attempt))),
        ("reason", enum_word(attempt, "reason")),
        ("why", end_cause(attempt)),
        ("exit", exit_of(attempt)),
        ("started", when(attempt, "started_at")),
        ("ended", when(attempt, "ended_at")),
        ("duration", Span((ended - started).total_seconds() if started and ended else None)),
        ("disconnected since", when(attempt, "disconnected_since")),
        ("pid", str(attempt.pid or "")),
        ("log bytes", str(attempt.log_bytes)),
    ]
    if len(attempt.steps) > 1:
        lines += [
            (f"step {step.index}", f"{step.name or enum_word(step, 'kind')} exit {exit_of_step(step)}")
            for step in attempt.steps
        ]
    if attempt.HasField("stop"):
        lines += stop_lines(attempt.stop)
    if attempt.HasField("ended_at"):
        lines.append(proof_line(attempt))
        lines.append(("log complete", yes_no(attempt.log_complete)))
    for gap in attempt.gaps:
        lines.append(("log gap", f"bytes {gap.from_offset} to {gap.to_offset} were dropped on the runner"))
    return lines


def proof_line(attempt: run_pb2.Attempt) -> tuple[str, Cell]:
    """What the kernel said: the proof of a stop, else only that nothing was left behind."""
    if attempt.kill_confirmed:
        if attempt.HasField("stop"):
            return ("kill confirmed", "yes: the kernel said that no process of it is left")
        return ("processes left", "none")
    lost = state_word(attempt) == "LOST"
    return ("kill confirmed", "no: presumed dead, its runner has not said so" if lost else "no")


def exit_of_step(step: run_pb2.StepResult) -> str:
    if step.error_message:
        return step.error_message
    return f"signal {step.signal}" if step.HasField("signal") else str(step.exit_code)


def stop_lines(stop: run_pb2.StopRecord) -> list[tuple[str, Cell]]:
    phases = [
        f"{name} {cell.at.strftime('%H:%M:%S.%f')[:-3]}"
        for name in ("requested", "received", "signalled", "killed")
        if (cell := when(stop, f"{name}_at")).at is not None
    ]
    by = f" by {stop.requested_by}" if stop.requested_by else ""
    note = f": {stop.note}" if stop.note else ""
    return [
        ("stop", f"{enum_word(stop, 'reason')}{by}{note}"),
        ("stop phases", ", ".join(phases)),
        ("survivors", str(stop.survivors or "")),
    ]
