"""Workspaces that stay for a while after their attempt: `<workspace>/kept` says until when. Survives a restart."""

from __future__ import annotations

import json
import os
from pathlib import Path

from runner_agent.workspace.removal import NotRemoved
from runner_agent.workspace.workspaces import Workspaces

MARK = "kept"
SECOND_NS = 1_000_000_000
# Whatever a mark says: the contract allows no more.
LONGEST_S = 30 * 86_400


def keep(workspaces: Workspaces, name: str, until_ns: int) -> None:
    """Mark a workspace, durably, as one that stays until `until_ns` (wall clock). Raises OSError."""
    directory = workspaces.root / name
    fresh = directory / f"{MARK}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"until_s": until_ns // SECOND_NS}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, directory / MARK)
    synced = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(synced)
    finally:
        os.close(synced)


def leave(workspaces: Workspaces, name: str, until_ns: int | None) -> None:
    """The attempt is forgotten: its workspace goes, or stays until then. Raises OSError, NotRemoved."""
    if until_ns is not None and (workspaces.root / name).is_dir():
        keep(workspaces, name, until_ns)
    else:
        workspaces.remove(name)


def remove_due(workspaces: Workspaces, now_ns: int) -> tuple[int | None, tuple[str, ...]]:
    """Remove those whose time has come; when the next one is due, and what could not be removed. Raises OSError."""
    left: list[str] = []
    later: list[int] = []
    for name, until_ns in kept(workspaces, now_ns).items():
        if until_ns > now_ns:
            later.append(until_ns)
            continue
        try:
            workspaces.remove(name)
        except NotRemoved as error:
            left.append(str(error))
    return min(later, default=None), tuple(left)


def kept(workspaces: Workspaces, now_ns: int) -> dict[str, int]:
    """All marked workspaces, with when each is to go (wall clock ns). One whose mark cannot be read goes now."""
    found: dict[str, int] = {}
    for name in os.listdir(workspaces.root):
        until_ns = _until(workspaces.root / name / MARK)
        if until_ns is not None:
            found[name] = min(until_ns, now_ns + LONGEST_S * SECOND_NS)
    return found


def _until(mark: Path) -> int | None:
    try:
        descriptor = os.open(mark, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        try:
            until_s = json.loads(file.read(1_024))["until_s"]
        except (ValueError, KeyError, TypeError):
            return 0
    return until_s * SECOND_NS if isinstance(until_s, int) else 0
