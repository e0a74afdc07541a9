"""Verbs on projects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from control_plane.domain import limits
from control_plane.domain.concurrency import ConcurrencyLimit, check_project_limit
from control_plane.domain.errors import (
    AlreadyExists,
    ErrorCode,
    FailedPrecondition,
    FieldViolation,
    NotFound,
)
from control_plane.domain.ids import PrincipalId, ProjectId
from control_plane.domain.names import check_name, check_text
from control_plane.domain.principal import Caller
from control_plane.domain.project import DEFAULT_PROJECT_NAME, Project, Retention, check_retention
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import (
    FIRST_ETAG,
    check_etag,
    next_etag,
    once,
    refuse,
    request_id_violations,
    require_saved,
)
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """What a caller says about a project that is to be."""

    name: str
    description: str = ""
    concurrency: ConcurrencyLimit | None = None
    retention: Retention = field(default_factory=Retention)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectChange:
    """None leaves a field as it is; an empty etag does not guard the change. A limit of 0 takes the limit away."""

    name: str | None = None
    description: str | None = None
    concurrency: ConcurrencyLimit | None = None
    retention: Retention | None = None
    etag: str = ""


async def ensure_default(house: House) -> Project:
    """The project "default", made when it is not there."""

    def body(connection: Connection) -> Project:
        known = reads.find_project(connection, DEFAULT_PROJECT_NAME)
        return known or _insert(house, connection, NewProject(name=DEFAULT_PROJECT_NAME), PrincipalId(""))

    return await house.database.write(body, name="projects.ensure_default", after=partial(_told, house))


async def create(house: House, caller: Caller, new: NewProject) -> Project:
    """Raises InvalidArgument with every offending field, AlreadyExists NAME_TAKEN."""
    refuse(*_violations(new), *request_id_violations(caller))

    def body(connection: Connection) -> Project:
        return once(
            connection,
            caller,
            "CreateProject",
            new,
            now=house.clock.now(),
            kept_s=house.timing.request_id_kept_s,
            load=lambda known: reads.project(connection, ProjectId(known)),
            make=lambda: _insert(house, connection, new, caller.principal.id),
        )

    return await house.database.write(body, name="projects.create", after=partial(_told, house))


async def update(house: House, project_id: ProjectId, change: ProjectChange) -> Project:
    """Raises NotFound, Aborted ETAG_MISMATCH, AlreadyExists NAME_TAKEN, InvalidArgument."""
    body = partial(_update, house, project_id, change)
    return await house.database.write(body, name="projects.update", after=partial(_told, house))


async def delete(house: House, project_id: ProjectId, etag: str = "") -> None:
    """Refused while it holds tasks, templates, schedules, secrets or runs: FailedPrecondition PROJECT_NOT_EMPTY."""

    def body(connection: Connection) -> None:
        project = _load(connection, project_id, etag)
        if project.name == DEFAULT_PROJECT_NAME:
            refuse(FieldViolation(field="project", description='the project "default" always exists'))
        if held := reads.project_contents(connection, project_id):
            raise FailedPrecondition(
                ErrorCode.PROJECT_NOT_EMPTY,
                f"The project {project.name!r} still holds {', '.join(held)}.",
                metadata={"holds": ",".join(held)},
            )
        writes.delete_tombstones_of_project(connection, project_id, house.clock.now())
        writes.delete_project(connection, project_id)

    await house.database.write(body, name="projects.delete", after=partial(_told, house))


def _told(house: House, _: object) -> None:
    house.projects.forget()
    # A higher limit lets runs start that wait.
    house.watch.notify("queue", "slots")


def _insert(house: House, connection: Connection, new: NewProject, created_by: PrincipalId) -> Project:
    _refuse_taken(connection, new.name)
    now = house.clock.now()
    project = Project(
        id=ProjectId(house.clock.new_id()),
        name=new.name,
        description=new.description,
        concurrency=new.concurrency,
        retention=new.retention,
        created_by=created_by,
        created_at=now,
        updated_at=now,
        etag=FIRST_ETAG,
    )
    writes.insert_project(connection, project)
    return project


def _update(house: House, project_id: ProjectId, change: ProjectChange, connection: Connection) -> Project:
    old = _load(connection, project_id, change.etag)
    new = replace(
        old,
        name=old.name if change.name is None else change.name,
        description=old.description if change.description is None else change.description,
        concurrency=_changed_limit(old, change.concurrency),
        retention=old.retention if change.retention is None else change.retention,
    )
    refuse(*_violations(new))
    if new.name != old.name:
        if old.name == DEFAULT_PROJECT_NAME:
            refuse(FieldViolation(field="project.name", description='the project "default" keeps its name'))
        _refuse_taken(connection, new.name)
    new = replace(new, updated_at=house.clock.now(), etag=next_etag(old.etag))
    require_saved(writes.save_project(connection, old, new))
    return new


def _load(connection: Connection, project_id: ProjectId, etag: str) -> Project:
    project = reads.project(connection, project_id)
    if project is None:
        raise NotFound(ErrorCode.PROJECT_NOT_FOUND)
    check_etag(project.etag, etag)
    return project


def _refuse_taken(connection: Connection, name: str) -> None:
    if reads.find_project(connection, name) is not None:
        raise AlreadyExists(ErrorCode.NAME_TAKEN, f"There is a project {name!r} already.")


def _changed_limit(old: Project, change: ConcurrencyLimit | None) -> ConcurrencyLimit | None:
    if change is None:
        return old.concurrency
    return None if change == ConcurrencyLimit() else change


def _violations(found: Project | NewProject) -> tuple[FieldViolation, ...]:
    return (
        *check_name(found.name, "project.name"),
        *check_text(found.description, "project.description", limits.DESCRIPTION_BYTES),
        *check_project_limit(found.concurrency, "project.concurrency"),
        *check_retention(found.retention, "project.retention"),
    )
