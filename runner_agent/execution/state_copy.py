"""Which state directory this is: one that was copied from another must not speak for the other's attempts.

    <state>/id       random, made with the directory
    <state>/place    where `id` lies: the file's inode, and the host's machine id; a copy differs in at least one

A copy gets an id of its own, and the run directories that came with it are set aside: their processes, if they live,
belong to the first one, which tells of them itself.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

from runner_agent.shim import files

_MACHINE_ID = Path("/etc/machine-id")


def identify(path: Path, machine_id: Path = _MACHINE_ID) -> tuple[str, str]:
    """The directory's id, and a warning if it is a copy (else empty). Raises OSError."""
    stored = _read(path / "id")
    if not stored:
        return _made(path, machine_id), ""
    known = _read(path / "place")
    if known == _place(path, machine_id):
        return stored, ""
    if not known:  # an earlier version made it
        _mark(path, machine_id)
        return stored, ""
    aside = path / f"copied-{time.time_ns()}"
    count = _set_aside(path / "runs", aside)
    made = _made(path, machine_id)
    left = f" The {count} attempts that came with it are set aside in {aside}." if count else ""
    return made, (
        f"{path} is a copy of another state directory ({stored}) and has an id of its own now ({made}).{left} If the"
        " other one is in use too, two hosts share one identity: remove credential.json here, and join anew."
    )


def _made(path: Path, machine_id: Path) -> str:
    made = uuid.uuid4().hex
    files.write_once(str(path), "id", made.encode("ascii") + b"\n")
    _mark(path, machine_id)
    return made


def _mark(path: Path, machine_id: Path) -> None:
    files.write_once(str(path), "place", _place(path, machine_id).encode("ascii") + b"\n")


def _place(path: Path, machine_id: Path) -> str:
    host = _read(machine_id)
    return f"{os.stat(path / 'id').st_ino} {host if host.isalnum() else '-'}"


def _set_aside(runs: Path, aside: Path) -> int:
    """Move the run directories out of the way; how many there were."""
    count = sum(not entry.name.startswith(".") and entry.name != "quarantine" for entry in runs.iterdir())
    runs.rename(aside)
    return count


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return ""
