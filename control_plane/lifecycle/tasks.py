"""Verbs on tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from control_plane.domain import limits
from control_plane.domain.case import Case
from control_plane.domain.errors import AlreadyExists, ErrorCode, FieldViolation, NotFound
from control_plane.domain.ids import ProjectId, TaskId
from control_plane.domain.names import check_labels, check_name, check_tags, check_text
from control_plane.domain.principal import Caller
from control_plane.domain.reason import Reason
from control_plane.domain.spec import RunSpec
from control_plane.domain.spec_rules import validate_size, validate_spec
from control_plane.domain.stops import CancelOrder
from control_plane.domain.task import Task
from control_plane.lifecycle import runs
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

# A verb is short: a task with many queued runs is deleted in several.
RUNS_A_VERB = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What a caller says about a task that is to be."""

    project_id: ProjectId
    name: str
    spec: RunSpec
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange:
    """None leaves a field as it is; an empty etag does not guard the change."""

    name: str | None = None
    spec: RunSpec | None = None
    description: str | None = None
    labels: Mapping[str, str] | None = None
    tags: tuple[str, ...] | None = None
    active: bool | None = None
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredSpec:
    """A spec as its author wrote it, in its stored form."""

    sha256: str
    data: bytes
    spec: RunSpec


async def create(house: House, caller: Caller, new: NewTask) -> Task:
    """Raises InvalidArgument with every offending field, AlreadyExists NAME_TAKEN or REQUEST_ID_REUSED."""
    draft = _draft(house, caller, new)
    wrong = tuple(_violations(draft))
    spec = _encoded(house, new.spec, wrong, request_id_violations(caller))

    def body(connection: Connection) -> Task:
        return once(
            connection,
            caller,
            "CreateTask",
            new,
            now=house.clock.now(),
            kept_s=house.timing.request_id_kept_s,
            load=lambda known: reads.task(connection, TaskId(known)),
            make=lambda: _insert(house, connection, replace(draft, spec_sha256=spec.sha256), spec),
        )

    return await house.database.write(body, name="tasks.create")


async def update(house: House, task_id: TaskId, change: TaskChange) -> Task:
    """Raises NotFound, Aborted ETAG_MISMATCH, AlreadyExists NAME_TAKEN, InvalidArgument."""
    spec = None if change.spec is None else _encoded(house, change.spec)
    body = partial(_update, house, task_id, change, spec)
    return await house.database.write(body, name="tasks.update")


async def delete(house: House, caller: Caller, task_id: TaskId, etag: str = "") -> None:
    """Its schedules go, its queued and offered runs are cancelled, its history stays. Raises NotFound, Aborted."""
    actor = caller.principal.name

    def body(connection: Connection) -> tuple[Case, ...]:
        old = _load(connection, task_id, etag)
        now = house.clock.now()
        new = replace(old, deleted_at=now, updated_at=now, etag=next_etag(old.etag))
        require_saved(writes.save_task(connection, old, new))
        writes.delete_schedules_of_task(connection, task_id)
        return _cancel_some(house, actor, connection)

    def after(cases: tuple[Case, ...]) -> None:
        house.told(cases)
        house.watch.notify("schedules")

    cancelled = await house.database.write(body, name="tasks.delete", after=after)
    if len(cancelled) == RUNS_A_VERB:
        await cancel_waiting(house, actor)


async def cancel_waiting(house: House, actor: str = "") -> int:
    """Cancel the queued and offered runs of deleted tasks, some at a time; how many there were.

    Housekeeping calls it too, for a server that ended in the middle of a delete.
    """
    body = partial(_cancel_some, house, actor)
    count = 0
    while True:
        cases = await house.database.write(body, name="tasks.cancel_waiting", after=house.told)
        count += len(cases)
        if len(cases) < RUNS_A_VERB:
            return count


def _cancel_some(house: House, actor: str, connection: Connection) -> tuple[Case, ...]:
    order = CancelOrder(reason=Reason.TASK_DELETED, actor=actor)
    waiting = reads.waiting_runs_of_deleted_tasks(connection, RUNS_A_VERB)
    return tuple(runs.cancel_in(house, connection, run_id, order) for run_id in waiting)


def _draft(house: House, caller: Caller, new: NewTask) -> Task:
    now = house.clock.now()
    return Task(
        id=TaskId(house.clock.new_id()),
        project_id=new.project_id,
        name=new.name,
        description=new.description,
        spec_sha256="",
        labels=dict(new.labels),
        tags=new.tags,
        active=new.active,
        created_by=caller.principal.id,
        created_at=now,
        updated_at=now,
        etag=FIRST_ETAG,
    )


def _insert(house: House, connection: Connection, task: Task, spec: _StoredSpec) -> Task:
    _refuse_taken(connection, task)
    _keep(house, connection, spec)
    writes.insert_task(connection, task)
    return task


def _update(
    house: House, task_id: TaskId, change: TaskChange, spec: _StoredSpec | None, connection: Connection
) -> Task:
    old = _load(connection, task_id, change.etag)
    new = replace(
        old,
        name=old.name if change.name is None else change.name,
        description=old.description if change.description is None else change.description,
        labels=old.labels if change.labels is None else dict(change.labels),
        tags=old.tags if change.tags is None else change.tags,
        active=old.active if change.active is None else change.active,
        spec_sha256=old.spec_sha256 if spec is None else spec.sha256,
        updated_at=house.clock.now(),
        etag=next_etag(old.etag),
    )
    refuse(*_violations(new))
    if new.name != old.name:
        _refuse_taken(connection, new)
    if spec is not None:
        _keep(house, connection, spec)
    require_saved(writes.save_task(connection, old, new))
    return new


def _load(connection: Connection, task_id: TaskId, etag: str) -> Task:
    task = reads.task(connection, task_id)
    if task is None or task.deleted_at is not None:
        raise NotFound(ErrorCode.TASK_NOT_FOUND)
    check_etag(task.etag, etag)
    return task


def _refuse_taken(connection: Connection, task: Task) -> None:
    if reads.find_task(connection, task.project_id, task.name) is not None:
        raise AlreadyExists(ErrorCode.NAME_TAKEN, f"There is a task {task.name!r} in this project already.")


def _encoded(house: House, spec: RunSpec, *found: tuple[FieldViolation, ...]) -> _StoredSpec:
    """The spec's stored form. Raises InvalidArgument that names `found` and everything wrong with the spec."""
    others = tuple(violation for group in found for violation in group)
    refuse(*others, *validate_spec(spec, lease_s=house.timing.lease_s(0), path="task.spec"))
    data = house.codec.encode(spec)
    refuse(*validate_size(len(data), spec, path="task.spec"))
    return _StoredSpec(sha256=hashlib.sha256(data).hexdigest(), data=data, spec=spec)


def _keep(house: House, connection: Connection, spec: _StoredSpec) -> None:
    names = tuple(spec.spec.secret_names())
    writes.insert_spec(connection, spec.sha256, spec.data, house.clock.now(), names)


def _violations(task: Task) -> Iterator[FieldViolation]:
    yield from check_name(task.name, "task.name")
    yield from check_text(task.description, "task.description", limits.DESCRIPTION_BYTES)
    yield from check_labels(task.labels, "task.labels")
    yield from check_tags(task.tags, "task.tags")
