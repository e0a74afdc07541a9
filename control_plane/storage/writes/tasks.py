"""Writes of tasks and secrets."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert

from control_plane.domain.ids import ProjectId, TaskId
from control_plane.domain.secret import SealedSecret
from control_plane.domain.task import Task
from control_plane.storage.shapes import SECRET, TASK
from control_plane.storage.tables import SECRETS, TASK_MARKS, TASKS
from control_plane.storage.writes.changes import compare_and_set
from control_plane.storage.writes.marks import marks


def insert_task(connection: Connection, task: Task) -> None:
    connection.execute(insert(TASKS), TASK.values(task))
    _mark(connection, task)


def save_task(connection: Connection, old: Task, new: Task) -> bool:
    """Writes what differs while the etag is the old one's."""
    saved = compare_and_set(connection, TASKS, TASK.changes(old, new), {"id": old.id, "etag": old.etag})
    if saved and (old.tags, old.labels) != (new.tags, new.labels):
        connection.execute(delete(TASK_MARKS).where(TASK_MARKS.c.task_id == new.id))
        _mark(connection, new)
    return saved


def delete_task(connection: Connection, task_id: TaskId) -> bool:
    """For good; its runs stay. Its schedules must have gone."""
    return connection.execute(delete(TASKS).where(TASKS.c.id == task_id)).rowcount == 1


def _mark(connection: Connection, task: Task) -> None:
    rows = [{"task_id": task.id, "key": key, "value": value} for key, value in marks(task.tags, task.labels)]
    if rows:
        connection.execute(insert(TASK_MARKS), rows)


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
