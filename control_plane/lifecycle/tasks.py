"""Verbs on tasks: create and change them. How they go is told in `task_deletion`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial

from control_plane.domain import limits
from control_plane.domain.errors import AlreadyExists, ErrorCode, FieldViolation
from control_plane.domain.extras import check_extras
from control_plane.domain.ids import PrincipalId, ProjectId, TaskId
from control_plane.domain.names import violation
from control_plane.domain.principal import Caller, PrincipalKind
from control_plane.domain.schedule import ScheduleDraft
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import NotificationSettings, ReportSettings, Task
from control_plane.domain.task_rules import check_task, check_template
from control_plane.domain.template import Origin
from control_plane.domain.variables import UnknownVariables, Variable
from control_plane.lifecycle import schedules
from control_plane.lifecycle.house import House
from control_plane.lifecycle.references import (
    missing_secrets,
    places_in_definition,
    refuse_with_secrets,
    require_secrets,
)
from control_plane.lifecycle.requests import (
    FIRST_ETAG,
    next_etag,
    once,
    refuse,
    request_id_violations,
    require_saved,
    write,
)
from control_plane.lifecycle.stored_specs import StoredSpec, encoded, keep, spec_violations
from control_plane.lifecycle.task_deletion import RUNS_A_VERB, cancel_waiting, delete, load_task, purge, undelete
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

__all__ = [
    "RUNS_A_VERB",
    "NewTask",
    "TaskChange",
    "cancel_waiting",
    "create",
    "delete",
    "new_owner",
    "purge",
    "undelete",
    "update",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What a caller says about a task that is to be. Without an owner it is the caller's."""

    project_id: ProjectId
    name: str
    spec: RunSpec
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    active: bool = True
    variables: tuple[Variable, ...] = ()
    unknown_variables: UnknownVariables = UnknownVariables.KEEP
    allow_shell_substitution: bool = False
    allowed_overrides: tuple[str, ...] = ()
    owner: PrincipalId | None = None
    is_public: bool = False
    report: ReportSettings = field(default_factory=ReportSettings)
    notifications: tuple[NotificationSettings, ...] = ()
    # Made with the task, or not at all; their `task` is left empty.
    schedules: tuple[ScheduleDraft, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange:
    """None leaves a field as it is; an empty etag does not guard the change. Fields are named as the task's."""

    name: str | None = None
    spec: RunSpec | None = None
    description: str | None = None
    labels: Mapping[str, str] | None = None
    tags: tuple[str, ...] | None = None
    active: bool | None = None
    variables: tuple[Variable, ...] | None = None
    unknown_variables: UnknownVariables | None = None
    allow_shell_substitution: bool | None = None
    allowed_overrides: tuple[str, ...] | None = None
    owner: PrincipalId | None = None
    is_public: bool | None = None
    report: ReportSettings | None = None
    notifications: tuple[NotificationSettings, ...] | None = None
    etag: str = ""


# What a template's meaning depends on, beside its spec.
_TEMPLATE = frozenset({"variables", "allow_shell_substitution"})


async def create(
    house: House,
    caller: Caller,
    new: NewTask,
    found: tuple[FieldViolation, ...] = (),
    *,
    origin: Origin | None = None,
    asked: object = None,
    validate_only: bool = False,
) -> Task:
    """`found` is what the caller's side knows to be wrong already; `origin` is the template that it is `asked` of.

    Raises InvalidArgument with every offending field, AlreadyExists NAME_TAKEN or REQUEST_ID_REUSED.
    """
    draft = _draft(house, caller, new, origin)
    drafts = _named(new)
    places = places_in_definition("task", new.spec, new.variables, new.notifications)
    wrong = (
        *found,
        *check_task(draft),
        *check_extras(house.extras, draft.report, draft.notifications, "task"),
        *spec_violations(house, new.spec, "task.spec"),
        *check_template(draft, new.spec),
        *_schedule_violations(house, drafts, draft, new.spec),
        *request_id_violations(caller),
    )
    if wrong:
        refuse(*wrong, *await house.database.read(partial(missing_secrets, project_id=new.project_id, places=places)))
    spec = encoded(house, new.spec, "task.spec")

    def make(connection: Connection) -> Task:
        require_secrets(connection, new.project_id, places)
        return _insert(house, connection, caller, replace(draft, spec_sha256=spec.sha256), spec, drafts)

    def body(connection: Connection) -> Task:
        return once(
            connection,
            caller,
            "CreateTask" if asked is None else "InstantiateTemplate",
            new if asked is None else asked,
            now=house.clock.now(),
            kept_s=house.timing.request_id_kept_s,
            load=lambda known: reads.task(connection, TaskId(known)),
            make=lambda: make(connection),
        )

    def after(_: Task) -> None:
        if drafts:
            house.watch.notify(schedules.TOPIC)

    return await write(house.database, body, name="tasks.create", after=after, validate_only=validate_only)


async def update(
    house: House,
    task_id: TaskId,
    change: TaskChange,
    found: tuple[FieldViolation, ...] = (),
    *,
    validate_only: bool = False,
) -> Task:
    """Raises NotFound, Aborted ETAG_MISMATCH, AlreadyExists NAME_TAKEN, InvalidArgument (with what is `found` too)."""
    wrong = (*found, *(() if change.spec is None else spec_violations(house, change.spec, "task.spec")))
    spec = None if change.spec is None or wrong else encoded(house, change.spec, "task.spec")
    body = partial(_update, house, task_id, change, spec, wrong)
    return await write(house.database, body, name="tasks.update", validate_only=validate_only)


async def new_owner(
    house: House, caller: Caller, text: str, project_id: ProjectId
) -> tuple[PrincipalId | None, tuple[FieldViolation, ...]]:
    """Whom a request names as a task's owner, by id or name (None: nobody), or what is wrong with that.

    Only an admin may name another than itself, and only one who may use the project.
    """
    if not text:
        return None, ()
    if text in (caller.principal.id, caller.principal.name):
        return caller.principal.id, ()
    found = None
    if caller.principal.admin:
        found = await house.database.read(partial(reads.find_principal, id_or_name=text))
    if found is None or found.kind is PrincipalKind.RUNNER or not found.may_use(project_id):
        who = "there is no such user of the project" if caller.principal.admin else "only an admin may name another"
        return None, (violation("task.owner", who),)
    return found.id, ()


def _draft(house: House, caller: Caller, new: NewTask, origin: Origin | None) -> Task:
    now = house.clock.now()
    said = {each.name: getattr(new, each.name) for each in fields(NewTask) if each.name not in ("spec", "schedules")}
    return Task(
        **said
        | {
            "id": TaskId(house.clock.new_id()),
            "labels": dict(new.labels),
            "owner": caller.principal.id if new.owner is None else new.owner,
            "spec_sha256": "",
            "created_by": caller.principal.id,
            "created_at": now,
            "updated_at": now,
            "etag": FIRST_ETAG,
        }
        | ({} if origin is None else {each.name: getattr(origin, each.name) for each in fields(Origin)})
    )


def _named(new: NewTask) -> tuple[ScheduleDraft, ...]:
    """A schedule that comes with a task may go without a name of its own."""
    return tuple(
        draft if draft.name else replace(draft, name=new.name if index == 0 else f"{new.name} {index + 1}")
        for index, draft in enumerate(new.schedules)
    )


def _schedule_violations(
    house: House, drafts: tuple[ScheduleDraft, ...], task: Task, spec: RunSpec
) -> Iterator[FieldViolation]:
    if len(drafts) > limits.SCHEDULES_A_TASK:
        yield violation("task.schedules", f"at most {limits.SCHEDULES_A_TASK}, are {len(drafts)}")
    for index, draft in enumerate(drafts[: limits.SCHEDULES_A_TASK]):
        yield from schedules.draft_violations(house, draft, f"task.schedules[{index}]", task, spec)


def _insert(
    house: House,
    connection: Connection,
    caller: Caller,
    task: Task,
    spec: StoredSpec,
    drafts: tuple[ScheduleDraft, ...],
) -> Task:
    _refuse_taken(connection, task)
    keep(house, connection, spec)
    writes.insert_task(connection, task)
    for draft in drafts:
        schedules.insert_in(house, connection, caller, task.project_id, replace(draft, task=task.id))
    return task


def _update(
    house: House,
    task_id: TaskId,
    change: TaskChange,
    spec: StoredSpec | None,
    wrong: tuple[FieldViolation, ...],
    connection: Connection,
) -> Task:
    old = load_task(connection, task_id, change.etag)
    said = {each.name: getattr(change, each.name) for each in fields(TaskChange) if each.name not in ("spec", "etag")}
    changed = {name: value for name, value in said.items() if value is not None}
    new = replace(
        old,
        **changed,
        spec_sha256=old.spec_sha256 if spec is None else spec.sha256,
        updated_at=house.clock.now(),
        etag=next_etag(old.etag),
    )
    template: tuple[FieldViolation, ...] = ()
    if not wrong and (spec is not None or _TEMPLATE & changed.keys()):
        text = house.spec(connection, old.spec_sha256) if spec is None else spec.spec
        template = tuple(check_template(new, text))
    extras = check_extras(house.extras, change.report, change.notifications, "task")
    places = places_in_definition("task", change.spec, change.variables, change.notifications)
    refuse_with_secrets(connection, old.project_id, places, (*check_task(new), *extras, *wrong, *template))
    if new.name != old.name:
        _refuse_taken(connection, new)
    if spec is not None:
        keep(house, connection, spec)
    require_saved(writes.save_task(connection, old, new))
    return new


def _refuse_taken(connection: Connection, task: Task) -> None:
    if reads.find_task(connection, task.project_id, task.name) is not None:
        raise AlreadyExists(ErrorCode.NAME_TAKEN, f"There is a task {task.name!r} in this project already.")
