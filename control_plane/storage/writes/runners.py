"""Writes of runners."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, update

from control_plane.domain.runner import Runner
from control_plane.storage.rows import to_us
from control_plane.storage.shapes import RUNNER
from control_plane.storage.tables import RUNNERS
from control_plane.storage.writes.changes import compare_and_set


def insert_runner(connection: Connection, runner: Runner, *, created_by: str) -> None:
    connection.execute(insert(RUNNERS), RUNNER.values(runner, created_by=created_by))


def save_runner(connection: Connection, old: Runner, new: Runner) -> bool:
    """Writes what differs while session epoch and credential generation are the old one's."""
    guards = {
        "id": old.id,
        "session_epoch": old.session_epoch,
        "credential_generation": old.credential_generation,
    }
    return compare_and_set(connection, RUNNERS, RUNNER.changes(old, new), guards)


def disconnect_runners(connection: Connection, at: datetime) -> int:
    """Marks every runner as away, as it is when the server starts; how many were not."""
    statement = update(RUNNERS).where(RUNNERS.c.connected)
    values = {"connected": False, "disconnected_since": to_us(at), "last_seen_at": to_us(at)}
    return connection.execute(statement.values(values)).rowcount
