"""Writes of tasks and secrets."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert

from control_plane.domain.ids import ProjectId
from control_plane.domain.secret import SealedSecret
from control_plane.domain.task import Task
from control_plane.storage.shapes import SECRET, TASK
from control_plane.storage.tables import SECRETS, TASKS
from control_plane.storage.writes.changes import compare_and_set


def insert_task(connection: Connection, task: Task) -> None:
    connection.execute(insert(TASKS), TASK.values(task))


def save_task(connection: Connection, old: Task, new: Task) -> bool:
    """Writes what differs while the etag is the old one's."""
    return compare_and_set(connection, TASKS, TASK.changes(old, new), {"id": old.id, "etag": old.etag})


def insert_secret(connection: Connection, sealed: SealedSecret) -> None:
    connection.execute(insert(SECRETS), SECRET.values(sealed.secret, sealed=sealed.sealed))


def save_secret(connection: Connection, old: SealedSecret, new: SealedSecret) -> bool:
    """Writes the new value while the version is the old one's."""
    changes = SECRET.changes(old.secret, new.secret) | {"sealed": new.sealed}
    guards = {"project_id": old.secret.project_id, "name": old.secret.name, "version": old.secret.version}
    return compare_and_set(connection, SECRETS, changes, guards)


def delete_secret(connection: Connection, project_id: ProjectId, name: str) -> bool:
    statement = delete(SECRETS).where(SECRETS.c.project_id == project_id, SECRETS.c.name == name)
    return connection.execute(statement).rowcount == 1
