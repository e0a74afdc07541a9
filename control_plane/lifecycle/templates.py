"""Verbs on templates: create, change (a new version each time), delete, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial

from control_plane.domain.errors import AlreadyExists, ErrorCode, FieldViolation, NotFound
from control_plane.domain.extras import check_extras
from control_plane.domain.ids import PrincipalId, ProjectId, TemplateId
from control_plane.domain.principal import Caller
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import NotificationSettings, ReportSettings, Task
from control_plane.domain.template import Template, TemplateParameter
from control_plane.domain.template_rules import (
    check,
    check_given,
    check_secrets,
    filled,
    filled_values,
    fitting,
    remaining,
)
from control_plane.domain.variable_rules import check_rendered
from control_plane.domain.variables import UnknownVariables, Variable
from control_plane.lifecycle import tasks
from control_plane.lifecycle.house import House
from control_plane.lifecycle.references import (
    missing_secrets,
    places_in_definition,
    refuse_with_secrets,
    require_secrets,
)
from control_plane.lifecycle.requests import (
    FIRST_ETAG,
    check_etag,
    next_etag,
    once,
    refuse,
    request_id_violations,
    require_saved,
    write,
)
from control_plane.lifecycle.stored_specs import encoded, keep, spec_violations
from control_plane.lifecycle.tasks import NewTask
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTemplate:
    """What a caller says about a template that is to be. Without an owner it is the caller's."""

    project_id: ProjectId
    name: str
    spec: RunSpec
    description: str = ""
    parameters: tuple[TemplateParameter, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()
    unknown_variables: UnknownVariables = UnknownVariables.KEEP
    allow_shell_substitution: bool = False
    allowed_overrides: tuple[str, ...] = ()
    report: ReportSettings = field(default_factory=ReportSettings)
    notifications: tuple[NotificationSettings, ...] = ()
    owner: PrincipalId | None = None
    is_public: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateChange:
    """None leaves a field as it is; an empty etag does not guard the change. Fields are named as the template's."""

    name: str | None = None
    spec: RunSpec | None = None
    description: str | None = None
    parameters: tuple[TemplateParameter, ...] | None = None
    labels: Mapping[str, str] | None = None
    tags: tuple[str, ...] | None = None
    variables: tuple[Variable, ...] | None = None
    unknown_variables: UnknownVariables | None = None
    allow_shell_substitution: bool | None = None
    allowed_overrides: tuple[str, ...] | None = None
    report: ReportSettings | None = None
    notifications: tuple[NotificationSettings, ...] | None = None
    owner: PrincipalId | None = None
    is_public: bool | None = None
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A task that is to be made of a template. `task` says what the template does not."""

    template_id: TemplateId
    # 0 means the newest.
    version: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    secret_parameters: Mapping[str, str] = field(default_factory=dict)
    task: NewTask


async def create(
    house: House,
    caller: Caller,
    new: NewTemplate,
    found: tuple[FieldViolation, ...] = (),
    *,
    validate_only: bool = False,
) -> Template:
    """`found` is what the caller's side knows to be wrong already.

    Raises InvalidArgument with every offending field, AlreadyExists NAME_TAKEN or REQUEST_ID_REUSED.
    """
    draft = _draft(house, caller, new)
    places = places_in_definition("template", new.spec, new.variables, new.notifications)
    spec_wrong = spec_violations(house, new.spec, "template.spec")
    extras = check_extras(house.extras, draft.report, draft.notifications, "template")
    wrong = (*found, *check(draft, new.spec), *extras, *spec_wrong, *request_id_violations(caller))
    if wrong:
        refuse(*wrong, *await house.database.read(partial(missing_secrets, project_id=new.project_id, places=places)))
    spec = encoded(house, new.spec, "template.spec")

    def make(connection: Connection) -> Template:
        template = replace(draft, spec_sha256=spec.sha256)
        require_secrets(connection, new.project_id, places)
        _refuse_taken(connection, template)
        keep(house, connection, spec)
        writes.insert_template(connection, template)
        return template

    def body(connection: Connection) -> Template:
        return once(
            connection,
            caller,
            "CreateTemplate",
            new,
            now=house.clock.now(),
            kept_s=house.timing.request_id_kept_s,
            load=lambda known: reads.template(connection, TemplateId(known)),
            make=lambda: make(connection),
        )

    return await write(house.database, body, name="templates.create", validate_only=validate_only)


async def update(
    house: House,
    caller: Caller,
    template_id: TemplateId,
    change: TemplateChange,
    found: tuple[FieldViolation, ...] = (),
    *,
    validate_only: bool = False,
) -> Template:
    """A new version. Raises NotFound, Aborted ETAG_MISMATCH, AlreadyExists NAME_TAKEN, InvalidArgument."""
    wrong = (*found, *(() if change.spec is None else spec_violations(house, change.spec, "template.spec")))
    body = partial(_update, house, caller, template_id, change, wrong)
    return await write(house.database, body, name="templates.update", validate_only=validate_only)


async def delete(house: House, template_id: TemplateId, etag: str = "") -> None:
    """For good. What was made of it stays. Raises NotFound, Aborted ETAG_MISMATCH."""

    def body(connection: Connection) -> None:
        _load(connection, template_id, etag)
        writes.delete_template(connection, template_id)

    await house.database.write(body, name="templates.delete")


async def instantiate(house: House, caller: Caller, asked: Instance, found: tuple[FieldViolation, ...] = ()) -> Task:
    """A task with the parameters filled in.

    Raises InvalidArgument with every offending field, NotFound, AlreadyExists NAME_TAKEN or REQUEST_ID_REUSED.
    """

    def look(connection: Connection) -> tuple[Template, RunSpec]:
        template = reads.template_version(connection, _load(connection, asked.template_id), asked.version)
        return template, house.spec(connection, template.spec_sha256)

    # A version never changes: it can be read before the task is made.
    template, spec = await house.database.read(look)
    given, secrets = asked.parameters, asked.secret_parameters
    wrong = (
        *found,
        *check_secrets(template.parameters, given, secrets),
        *check_given(_plain(template), _of_plain(template, given), "parameters"),
    )
    values = filled_values(template.parameters, fitting(template.parameters, given))
    wrong += rendering_violations(template, spec, values, "task.spec")
    task = _task(template, asked, filled(spec, values))
    return await tasks.create(house, caller, task, wrong, origin=template.origin, asked=asked)


def _plain(template: Template) -> tuple[TemplateParameter, ...]:
    return tuple(parameter for parameter in template.parameters if not parameter.sensitive)


def _of_plain(template: Template, given: Mapping[str, str]) -> dict[str, str]:
    """Sensitive ones have an answer of their own."""
    sensitive = {parameter.name for parameter in template.parameters if parameter.sensitive}
    return {name: value for name, value in given.items() if name not in sensitive}


def rendering_violations(
    template: Template, spec: RunSpec, values: Mapping[str, str], path: str
) -> tuple[FieldViolation, ...]:
    """What a value turns the spec into: too long, or the program of a shell."""
    allow = template.allow_shell_substitution
    return tuple(check_rendered(spec, values, path, allow_shell_substitution=allow, refuse_unknown=False))


def _task(template: Template, asked: Instance, spec: RunSpec) -> NewTask:
    task = asked.task
    return replace(
        task,
        spec=spec,
        description=task.description or template.description,
        labels={**template.labels, **task.labels},
        tags=tuple(dict.fromkeys((*template.tags, *task.tags))),
        variables=(*template.variables, *remaining(template.parameters, asked.secret_parameters)),
        unknown_variables=template.unknown_variables,
        allow_shell_substitution=template.allow_shell_substitution,
        allowed_overrides=template.allowed_overrides,
        report=template.report,
        notifications=template.notifications,
    )


def _draft(house: House, caller: Caller, new: NewTemplate) -> Template:
    now = house.clock.now()
    said = {each.name: getattr(new, each.name) for each in fields(NewTemplate) if each.name != "spec"}
    return Template(
        **said
        | {
            "id": TemplateId(house.clock.new_id()),
            "labels": dict(new.labels),
            "owner": caller.principal.id if new.owner is None else new.owner,
            "spec_sha256": "",
            "created_by": caller.principal.id,
            "created_at": now,
            "updated_by": caller.principal.id,
            "updated_at": now,
            "etag": FIRST_ETAG,
        }
    )


def _update(
    house: House,
    caller: Caller,
    template_id: TemplateId,
    change: TemplateChange,
    wrong: tuple[FieldViolation, ...],
    connection: Connection,
) -> Template:
    old = _load(connection, template_id, change.etag)
    said = {each.name: getattr(change, each.name) for each in fields(TemplateChange)}
    changed = {name: value for name, value in said.items() if value is not None and name not in ("spec", "etag")}
    spec = house.spec(connection, old.spec_sha256) if change.spec is None else change.spec
    new = replace(
        old,
        **changed,
        version=old.version + 1,
        updated_by=caller.principal.id,
        updated_at=house.clock.now(),
        etag=next_etag(old.etag),
    )
    extras = check_extras(house.extras, change.report, change.notifications, "template")
    places = places_in_definition("template", change.spec, change.variables, change.notifications)
    refuse_with_secrets(connection, old.project_id, places, (*wrong, *check(new, spec), *extras))
    if new.name != old.name:
        _refuse_taken(connection, new)
    if change.spec is not None:
        stored = encoded(house, spec, "template.spec")
        keep(house, connection, stored)
        new = replace(new, spec_sha256=stored.sha256)
    require_saved(writes.save_template(connection, old, new))
    return new


def _load(connection: Connection, template_id: TemplateId, etag: str = "") -> Template:
    template = reads.template(connection, template_id)
    if template is None:
        raise NotFound(ErrorCode.TEMPLATE_NOT_FOUND)
    check_etag(template.etag, etag)
    return template


def _refuse_taken(connection: Connection, template: Template) -> None:
    if reads.find_template(connection, template.project_id, template.name) is not None:
        raise AlreadyExists(ErrorCode.NAME_TAKEN, f"There is a template {template.name!r} in this project already.")
