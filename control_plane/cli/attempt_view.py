"""How one attempt is shown: its end, its steps, its stop and the proof that it is gone."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from control_plane.cli.durations import written_duration
from control_plane.cli.output import Cell, Span, State, since, to_seconds, when
from control_plane.cli.views import end_cause, exit_of, progress_of, yes_no
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
        ("host", host_of(attempt)),
        ("host silent since", silent_since(attempt)),
        ("given up", given_up(attempt)),
        ("pid", str(attempt.pid or "")),
        ("progress", progress_of(attempt)),
        ("used", used(attempt)),
        ("artifacts awaited until", when(attempt, "artifacts_due_at")),
        ("workspace", workspace_of(attempt)),
        ("log bytes", str(attempt.log_bytes) if attempt.log_complete or attempt.log_bytes else ""),
    ]
    if len(attempt.steps) > 1:
        lines += [
            (f"step {step.index}", f"{step.name or enum_word(step, 'kind')} exit {exit_of_step(step)}")
            for step in attempt.steps
        ]
    if attempt.HasField("stop"):
        lines += stop_lines(attempt.stop)
    killed = max(attempt.survivors_killed, attempt.stop.survivors)
    lines.append(("survivors killed", str(killed or "")))
    if attempt.HasField("ended_at"):
        lines.append(proof_line(attempt))
        lines.append(("log complete", yes_no(attempt.log_complete)))
    for gap in attempt.gaps:
        lines.append(("log gap", f"bytes {gap.from_offset} to {gap.to_offset} are missing"))
    if attempt.HasField("ended_at") and not attempt.log_complete and not attempt.log_counted:
        lines.append(("log gap", f"behind byte {attempt.log_bytes} an unknown number of bytes is missing"))
    return lines


def host_of(attempt: run_pb2.Attempt) -> Cell:
    """Whether the control plane reaches the host of a live attempt."""
    match enum_word(attempt, "connectivity"):
        case "CONNECTED" | "DISCONNECTED" as word:
            return State(word.lower())
        case "HOLDER_AWAY":
            return "away: its runner is connected from another state directory"
        case "NOT_RENEWED":
            return "its runner is connected and does not speak for it any more"
        case "SET_ASIDE":
            why = attempt.host_message or "it cannot be read"
            return f"its runner is connected and has quarantined the run directory: {why}"
        case word:
            return word.replace("_", " ").lower()


def workspace_of(attempt: run_pb2.Attempt) -> str:
    """Where its host keeps it, and until when."""
    if not attempt.workspace_path:
        return ""
    until = when(attempt, "workspace_kept_until").at
    return (
        f"{attempt.workspace_path} on {attempt.runner_name or attempt.runner_id}, until {until:%Y-%m-%d %H:%M:%S} UTC"
    )


def used(attempt: run_pb2.Attempt) -> str:
    """Each figure with its source: what the kernel counted for all of it, or only what was waited for."""
    usage = attempt.usage
    figures = []
    if usage.HasField("cpu_s"):
        figures.append(f"cpu {usage.cpu_s:.2f} s ({usage.cpu_source})")
    if usage.HasField("max_rss_bytes"):
        figures.append(f"memory {usage.max_rss_bytes / (1 << 20):.1f} MiB ({usage.max_rss_source})")
    if usage.HasField("read_bytes") and usage.HasField("written_bytes"):
        figures.append(f"read {usage.read_bytes} B, written {usage.written_bytes} B ({usage.io_source})")
    return ", ".join(figures)


def silent_since(attempt: run_pb2.Attempt) -> Cell:
    """Of a live attempt, and of one whose end or log its host still has."""
    return "" if attempt.log_complete else since(attempt, "disconnected_since")


def given_up(attempt: run_pb2.Attempt) -> Cell:
    """When the control plane calls it lost if nothing changes."""
    if enum_word(attempt, "connectivity") in ("", "CONNECTED"):
        return ""
    return since(attempt, "given_up_at") if attempt.HasField("given_up_at") else "never by itself: lost_after is never"


def proof_line(attempt: run_pb2.Attempt) -> tuple[str, Cell]:
    """What the kernel said: the proof of a stop, else only that nothing was left behind."""
    match enum_word(attempt, "end_proof"):
        case "CONFIRMED" if attempt.HasField("stop") or state_word(attempt) == "LOST":
            return ("kill confirmed", "yes: the kernel said that no process of it is left")
        case "CONFIRMED":
            return ("processes left", "none")
        case "PRESUMED_DEAD":
            return ("kill confirmed", "no: presumed dead, its host stops such a run by itself and has not said so")
        case "NOT_PROVEN":
            return ("kill confirmed", "no: not proven, its host has not said that no process of it is left")
        case _ if attempt.kill_confirmed or not attempt.HasField("started_at"):
            return ("processes left", "none")
        case _:
            return ("kill confirmed", "no")


def exit_of_step(step: run_pb2.StepResult) -> str:
    if step.error_message:
        return step.error_message
    return f"signal {step.signal}" if step.HasField("signal") else str(step.exit_code)


def stop_lines(stop: run_pb2.StopRecord) -> list[tuple[str, Cell]]:
    """The phases in their order by the control plane's clock; in brackets the host's own time."""
    phases = [phase_text(stop, name) for name in ("requested", "received", "signalled", "killed")]
    by = f" by {stop.requested_by}" if stop.requested_by else ""
    note = f": {stop.note}" if stop.note else ""
    how = f"{stop.signal}, killed after {written_duration(to_seconds(stop.grace))}" if stop.signal else ""
    return [
        ("stop", f"{enum_word(stop, 'reason')}{by}{note}"),
        ("stop signal", how),
        ("stop phase", enum_word(stop, "phase")),
        ("stop phases", ", ".join(filter(None, phases))),
    ]


def phase_text(stop: run_pb2.StopRecord, name: str) -> str:
    """Both clocks, so that two hosts' clocks cannot contradict each other."""
    told = when(stop, f"{name}_at").at
    heard = told if name == "requested" else when(stop, f"{name}_heard_at").at
    if told is None:
        return ""
    if name == "requested":
        return f"{name} {clock_time(told)}"
    return f"{name} {clock_time(heard)} [host {clock_time(told)}]" if heard else f"{name} [host {clock_time(told)}]"


def clock_time(at: datetime.datetime) -> str:
    return at.strftime("%H:%M:%S.%f")[:-3] + "Z"
