"""Reads of tasks and secrets."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection, Text, bindparam, or_, select

from control_plane.domain.ids import ProjectId, TaskId
from control_plane.domain.pages import Page
from control_plane.domain.secret import SealedSecret, Secret
from control_plane.domain.task import Task
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.prepared import Prepared
from control_plane.storage.shapes import SECRET, TASK
from control_plane.storage.tables import SECRETS, SPEC_SECRETS, TASKS

_TASKS: Final = select(*TASK.columns)
_TASK: Final = Prepared(_TASKS.where(TASKS.c.id == bindparam("id")))
_FIND_TASK: Final = Prepared(
    _TASKS.where(
        TASKS.c.project_id == bindparam("project_id"),
        TASKS.c.deleted_at.is_(None),
        or_(TASKS.c.id == bindparam("text"), TASKS.c.name == bindparam("text")),
    )
)
_SECRET_NAMES: Final = Prepared(select(SECRETS.c.name).where(SECRETS.c.project_id == bindparam("project_id")))
_SECRETS: Final = select(*SECRET.columns)
# Behind every text that begins with a prefix: no character sorts higher.
_LAST: Final = "\U0010ffff"


def task(connection: Connection, task_id: TaskId) -> Task | None:
    """Also one that was deleted."""
    row = _TASK.one(connection, {"id": task_id})
    return None if row is None else TASK.entity(row)


def find_task(connection: Connection, project_id: ProjectId, id_or_name: str) -> Task | None:
    """One of the project's tasks that are not deleted, by id or name."""
    row = _FIND_TASK.one(connection, {"project_id": project_id, "text": id_or_name})
    return None if row is None else TASK.entity(row)


def list_tasks(
    connection: Connection, project_id: ProjectId, request: PageRequest, *, name_prefix: str = ""
) -> Page[Task]:
    """By name."""
    query = _TASKS.where(TASKS.c.project_id == project_id, TASKS.c.deleted_at.is_(None))
    if name_prefix:
        query = query.where(TASKS.c.name >= name_prefix, TASKS.c.name < name_prefix + _LAST)
    return fetch_page(
        connection,
        query=query,
        key=TASKS.c.name,
        key_of=lambda item: item.name,
        build=TASK.entity,
        request=request,
        scope=("tasks", project_id, name_prefix),
    )


def secret_names(connection: Connection, project_id: ProjectId) -> frozenset[str]:
    return frozenset(row[0] for row in _SECRET_NAMES.all(connection, {"project_id": project_id}))


def sealed_secrets(connection: Connection, project_id: ProjectId, names: Collection[str]) -> tuple[SealedSecret, ...]:
    """Those of the named secrets that exist, by name."""
    if not names:
        return ()
    query = (
        select(*SECRET.columns, SECRETS.c.sealed)
        .where(SECRETS.c.project_id == project_id, SECRETS.c.name.in_(sorted(names)))
        .order_by(SECRETS.c.name)
    )
    return tuple(SealedSecret(secret=SECRET.entity(row), sealed=bytes(row[-1])) for row in connection.execute(query))


def list_secrets(connection: Connection, project_id: ProjectId, request: PageRequest) -> Page[Secret]:
    """By name; never a value."""
    return fetch_page(
        connection,
        query=_SECRETS.where(SECRETS.c.project_id == project_id),
        key=SECRETS.c.name,
        key_of=lambda item: item.name,
        build=SECRET.entity,
        request=request,
        scope=("secrets", project_id),
    )


def tasks_with_secret(connection: Connection, project_id: ProjectId, name: str, limit: int = 20) -> tuple[str, ...]:
    """Names of the project's tasks whose spec refers to the secret."""
    query = (
        select(TASKS.c.name.cast(Text))
        .join(SPEC_SECRETS, SPEC_SECRETS.c.sha256 == TASKS.c.spec_sha256)
        .where(TASKS.c.project_id == project_id, TASKS.c.deleted_at.is_(None), SPEC_SECRETS.c.name == name)
        .order_by(TASKS.c.name)
        .limit(limit)
    )
    return tuple(row[0] for row in connection.execute(query))
