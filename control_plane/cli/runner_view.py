"""How a runner is shown: whether it is reached, what it has on its disk, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.cli.output import Cell, Column, State, View, since, when
from control_plane.cli.views import pairs, yes_no
from control_plane.cli.words import enum_word

if TYPE_CHECKING:
    from control_plane.cli.contract import runner_pb2

LIVE = ("OFFERED", "STARTING", "RUNNING", "STOPPING")


def runner_state(runner: runner_pb2.Runner) -> Cell:
    if runner.HasField("revoked_at"):
        return State("revoked")
    if not runner.connected:
        return State("disconnected")
    return State("draining" if runner.draining else "connected")


def away_since(runner: runner_pb2.Runner) -> Cell:
    """Of a runner that is away; of one that never came, since it joined."""
    if runner.connected:
        return ""
    return since(runner, "disconnected_since" if runner.HasField("disconnected_since") else "created_at")


def session_of(runner: runner_pb2.Runner) -> str:
    if not runner.session_epoch:
        return "none yet"
    return f"{runner.session_epoch}" + ("" if runner.connected else " (over)")


RUNNER = View(
    columns=(
        Column("NAME", lambda runner: runner.name),
        Column("STATE", runner_state),
        Column("DISCONNECTED SINCE", away_since),
        Column("SLOTS", lambda runner: f"{runner.slots_used}/{runner.slots}"),
        Column("LABELS", lambda runner: pairs(runner.labels)),
        Column("POOL", lambda runner: runner.pool),
        Column("VERSION", lambda runner: runner.agent_version),
    ),
    lines=(
        Column("name", lambda runner: runner.name),
        Column("id", lambda runner: runner.id),
        Column("state", runner_state),
        Column("connected since", lambda runner: since(runner, "connected_since")),
        Column("disconnected since", away_since),
        Column("session", session_of),
        Column("draining", lambda runner: yes_no(runner.draining)),
        Column("revoked", lambda runner: when(runner, "revoked_at")),
        Column("slots", lambda runner: f"{runner.slots_used}/{runner.slots}"),
        Column("labels", lambda runner: pairs(runner.labels)),
        Column("pool", lambda runner: runner.pool),
        Column("projects", lambda runner: ",".join(runner.allowed_project_ids)),
        Column("version", lambda runner: runner.agent_version),
        Column("boot id", lambda runner: runner.boot_id),
        Column("state directory id", lambda runner: runner.state_directory_id),
        Column("created", lambda runner: when(runner, "created_at")),
    ),
    name=lambda runner: str(runner.name),
)

MARKED = View(
    columns=(
        Column("lost", lambda marked: ",".join(marked.lost_run_ids)),
        Column("in the queue again", lambda marked: ",".join(marked.queued_run_ids)),
        Column("cancelled", lambda marked: ",".join(marked.cancelled_run_ids)),
    ),
    name=lambda marked: str(marked.runner.name),
)


def disk_lines(runner: runner_pb2.Runner) -> list[tuple[str, Cell]]:
    """What it has, or may have, on its disk; what nobody there speaks for stands out."""
    lines: list[tuple[str, Cell]] = [attempt_line(attempt) for attempt in runner.attempts]
    lines += [("unknown run", f"{run}: it lists it, and nobody here knows it") for run in runner.unknown_run_ids]
    for alarm in runner.clone_alarms:
        lines += [("alarm", alarm.message), ("alarm raised", since(alarm, "at"))]
    return lines


def attempt_line(attempt: runner_pb2.RunnerAttempt) -> tuple[str, Cell]:
    state, phase = enum_word(attempt, "state"), enum_word(attempt, "phase")
    if phase in ("QUARANTINED", "UNKNOWN_SHIM"):
        return ("quarantined", f"{attempt.run_id} {state}: {attempt.message or 'its run directory cannot be read'}")
    if state in LIVE:
        word = phase if phase != state else ""
        listed = "not listed by it" if attempt.missing else f"on its disk {word}" if word else ""
        return ("holds", " ".join(filter(None, (attempt.run_id, state, f"({listed})" if listed else ""))))
    wanted = "its log is complete here" if attempt.log_sealed else "the end of its log is still there"
    return ("holds", f"{attempt.run_id} {state or 'unknown'} ({wanted})")
