"""Reads of tasks and secrets."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, bindparam, literal, or_, select

from control_plane.domain.filters import EVERYTHING, Filter
from control_plane.domain.ids import PrincipalId, ProjectId, TaskId
from control_plane.domain.pages import Page
from control_plane.domain.secret import SealedSecret, Secret
from control_plane.domain.task import Task
from control_plane.storage.filters import LAST, TASK_LEAVES, condition
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.prepared import Prepared
from control_plane.storage.shapes import SECRET, TASK
from control_plane.storage.tables import SECRETS, SPEC_SECRETS, TASKS, TEMPLATES

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
# Between name and id: below every character that a name may hold.
_BETWEEN: Final = "\x01"


def task(connection: Connection, task_id: TaskId) -> Task | None:
    """Also one that was deleted."""
    row = _TASK.one(connection, {"id": task_id})
    return None if row is None else TASK.entity(row)


def find_task(connection: Connection, project_id: ProjectId, id_or_name: str) -> Task | None:
    """One of the project's tasks that are not deleted, by id or name."""
    row = _FIND_TASK.one(connection, {"project_id": project_id, "text": id_or_name})
    return None if row is None else TASK.entity(row)


def find_deleted_task(connection: Connection, project_id: ProjectId, id_or_name: str) -> Task | None:
    """One of the project's deleted tasks, by id; by name the one that was deleted last."""
    query = _TASKS.where(
        TASKS.c.project_id == project_id,
        TASKS.c.deleted_at.is_not(None),
        or_(TASKS.c.id == id_or_name, TASKS.c.name == id_or_name),
    )
    row = connection.execute(query.order_by(TASKS.c.deleted_at.desc(), TASKS.c.id.desc()).limit(1)).first()
    return None if row is None else TASK.entity(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks of a project a list shows. `visible_to` None: all, else that principal's own and public ones."""

    name_prefix: str = ""
    matching: Filter = EVERYTHING
    visible_to: PrincipalId | None = None
    show_deleted: bool = False


def list_tasks(
    connection: Connection,
    project_id: ProjectId,
    request: PageRequest,
    *,
    name_prefix: str = "",
    wanted: TaskFilter | None = None,
) -> Page[Task]:
    """By name; among deleted ones of one name by id."""
    wanted = wanted or TaskFilter(name_prefix=name_prefix)
    query = _TASKS.where(TASKS.c.project_id == project_id, condition(wanted.matching, TASK_LEAVES))
    if wanted.name_prefix:
        query = query.where(TASKS.c.name >= wanted.name_prefix, TASKS.c.name < wanted.name_prefix + LAST)
    if wanted.visible_to is not None:
        query = query.where(or_(TASKS.c.is_public, TASKS.c.owner == wanted.visible_to))
    key: ColumnElement[str] = TASKS.c.name
    if wanted.show_deleted:
        key = TASKS.c.name + literal(_BETWEEN) + TASKS.c.id
    else:
        query = query.where(TASKS.c.deleted_at.is_(None))
    return fetch_page(
        connection,
        query=query,
        key=key,
        key_of=lambda item: f"{item.name}{_BETWEEN}{item.id}" if wanted.show_deleted else item.name,
        build=TASK.entity,
        request=request,
        scope=("tasks", project_id, wanted.name_prefix, repr(wanted.matching), wanted.show_deleted),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUser:
    """A definition that refers to a secret. `kind`: task or template."""

    kind: str
    name: str
    owner: PrincipalId
    is_public: bool


def users_of_secret(
    connection: Connection, project_id: ProjectId, name: str, limit: int = 1_000
) -> tuple[SecretUser, ...]:
    """The project's tasks (not deleted ones) and templates whose spec, variables or notifications refer to it."""
    in_spec = select(SPEC_SECRETS.c.sha256).where(SPEC_SECRETS.c.name == name)
    written = f'"secret_ref":"{name}"'
    found: list[SecretUser] = []
    for kind, table in (("task", TASKS), ("template", TEMPLATES)):
        somewhere = or_(
            table.c.spec_sha256.in_(in_spec),
            table.c.variables.contains(written, autoescape=True),
            table.c.notifications.contains(written, autoescape=True),
        )
        query = select(table.c.name, table.c.owner, table.c.is_public).where(
            table.c.project_id == project_id, somewhere
        )
        if kind == "task":
            query = query.where(table.c.deleted_at.is_(None))
        found += [
            SecretUser(kind=kind, name=row[0], owner=PrincipalId(row[1]), is_public=bool(row[2]))
            for row in connection.execute(query.order_by(table.c.name).limit(limit))
        ]
    return tuple(found)
