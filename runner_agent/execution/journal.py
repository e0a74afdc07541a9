"""What the agent adds to a run directory: notes for the agent after it, and the end of what was never started.

`agent` holds what the shim does not need but a later agent does. Every call blocks on the disk: use a thread.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from runner_agent.domain.assignment import DEFAULT_GRACE_S, DEFAULT_STOP_SIGNAL, Assignment, WorkspaceRemoval
from runner_agent.execution.run_directory import StillLive
from runner_agent.shim import files, remains, tree
from runner_agent.shim.aftermath import RunDirectory
from runner_agent.shim.codec import BadMessage, JsonObject
from runner_agent.shim.messages import ExitRecord

_NOTES = "agent"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a later agent has to know of an attempt that is already under way. Holds no secret."""

    lost_after_s: float | None = None
    grace_s: float = DEFAULT_GRACE_S
    stop_signal: str = DEFAULT_STOP_SIGNAL
    boot_id: str = ""
    step_names: tuple[str, ...] = ()
    step_kinds: tuple[str, ...] = ()
    artifacts: bool = False
    required: tuple[str, ...] = ()
    workspace_removal: WorkspaceRemoval = WorkspaceRemoval.ALWAYS
    workspace_keep_s: float = 0.0


def notes_on(assignment: Assignment, boot_id: str) -> Notes:
    """What is worth keeping of an assignment."""
    return Notes(
        lost_after_s=assignment.lost_after_s,
        grace_s=assignment.grace_s,
        stop_signal=assignment.stop_signal,
        boot_id=boot_id,
        step_names=tuple(step.name for step in assignment.steps),
        step_kinds=tuple(step.kind.value for step in assignment.steps),
        artifacts=bool(assignment.artifacts),
        required=tuple(each.path for each in assignment.artifacts if each.required),
        workspace_removal=assignment.workspace_removal,
        workspace_keep_s=assignment.workspace_keep_s,
    )


def write_notes(directory: Path, notes: Notes) -> None:
    """Keep them. Raises OSError.

    After a power cut they are not needed, so nothing is synced. Nothing was forked before they are written: who dies
    while writing leaves an attempt that is only accepted, whose Assignment comes again, so that half a file harms none.
    """
    body: JsonObject = {
        "version": _VERSION,
        "lost_after_s": notes.lost_after_s,
        "grace_s": notes.grace_s,
        "stop_signal": notes.stop_signal,
        "boot_id": notes.boot_id,
        "step_names": list(notes.step_names),
        "step_kinds": list(notes.step_kinds),
        "artifacts": notes.artifacts,
        "required": list(notes.required),
        "workspace_removal": notes.workspace_removal.value,
        "workspace_keep_s": notes.workspace_keep_s,
    }
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(directory / _NOTES, flags, 0o600)
    try:
        files.write_all(descriptor, files.encode_json(body))
    finally:
        os.close(descriptor)


def read_notes(directory: Path) -> Notes:
    """The notes; defaults where there are none or another version wrote them."""
    try:
        kept = files.read_json(str(directory), _NOTES)
    except (OSError, BadMessage):
        return Notes()
    if kept is None or kept.get("version") != _VERSION:
        return Notes()
    lost_after_s, grace_s = kept.get("lost_after_s"), kept.get("grace_s")
    keep_s = kept.get("workspace_keep_s")
    return Notes(
        lost_after_s=float(lost_after_s) if isinstance(lost_after_s, int | float) else None,
        grace_s=float(grace_s) if isinstance(grace_s, int | float) else DEFAULT_GRACE_S,
        stop_signal=str(kept.get("stop_signal") or DEFAULT_STOP_SIGNAL),
        boot_id=str(kept.get("boot_id") or ""),
        step_names=_texts(kept.get("step_names")),
        step_kinds=_texts(kept.get("step_kinds")),
        artifacts=kept.get("artifacts") is True,
        required=_texts(kept.get("required")),
        workspace_removal=_removal(kept.get("workspace_removal")),
        workspace_keep_s=float(keep_s) if isinstance(keep_s, int | float) else 0.0,
    )


def _removal(value: object) -> WorkspaceRemoval:
    return next((each for each in WorkspaceRemoval if each.value == value), WorkspaceRemoval.ALWAYS)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def end_unstarted(directory: Path, record: ExitRecord) -> ExitRecord:
    """Make sure that no shim can start anything there any more, then keep the record; one that is there stays.

    Raises StillLive if a shim has the directory or has had it, OSError.
    """
    stored = remains.end_unstarted(RunDirectory(str(directory), record.run_id, record.epoch), record)
    if stored is None:
        raise StillLive(f"{directory.name} is held by a shim, or was")
    return stored


def is_held(directory: Path) -> bool:
    """Whether a shim holds the run directory; does not block."""
    try:
        lock = files.try_lock(str(directory / "lock"), create=False)
    except OSError:
        return False
    if lock is None:
        return True
    os.close(lock)
    return False


def terminate_shim(directory: Path) -> bool:
    """SIGTERM to the shim of a run directory, which every version takes as a stop; False if it is not to be found."""
    identity = files.read_json(str(directory), "identity")
    if identity is None:
        return False
    pid, start_time = identity.get("shim_pid"), identity.get("shim_start_time")
    if not isinstance(pid, int) or not isinstance(start_time, int):
        return False
    return tree.send(pid, signal.SIGTERM, start_time)
