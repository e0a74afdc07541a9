"""What a run is made from: a task, a template with its parameters, or a spec of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from control_plane.domain.errors import ErrorCode, FailedPrecondition, NotFound
from control_plane.domain.ids import ProjectId, TaskId, TemplateId
from control_plane.domain.overrides import check_allowed, overridden
from control_plane.domain.run import RunOptions
from control_plane.domain.spec import RunSpec
from control_plane.domain.spec_rules import validate_size, validate_spec
from control_plane.domain.task import Task
from control_plane.domain.template_rules import check_given, filled, filled_values, fitting, remaining, task_of
from control_plane.domain.variable_rules import check_places, check_rendered
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import refuse
from control_plane.lifecycle.spec_cache import FrozenSpec
from control_plane.lifecycle.variables import Given
from control_plane.storage import reads
from control_plane.storage.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateUse:
    """A template to run, with its parameters; version 0 means the newest."""

    template_id: TemplateId
    version: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Source:
    """The spec that a run freezes, with whose rules it is made, and the variables that came with it."""

    frozen: FrozenSpec
    given: Given
    task: Task | None = None
    # The template as the task that it would be.
    template: Task | None = None


def of_spec(frozen: FrozenSpec, options: RunOptions) -> Source:
    return Source(frozen=frozen, given=_given(options))


def of_task(house: House, conn: Connection, task_id: TaskId, project_id: ProjectId, options: RunOptions) -> Source:
    """Raises NotFound TASK_NOT_FOUND, FailedPrecondition TASK_INACTIVE, InvalidArgument."""
    task = reads.task(conn, task_id)
    if task is None or task.deleted_at is not None or task.project_id != project_id:
        raise NotFound(ErrorCode.TASK_NOT_FOUND)
    if not task.active:
        raise FailedPrecondition(
            ErrorCode.TASK_INACTIVE,
            f"Task {task.name} is not active.",
            hint=f"banksman task update {task.name} --active",
        )
    if options.overrides is None:
        return Source(frozen=house.specs.frozen(conn, task.spec_sha256), given=_given(options), task=task)
    spec = house.spec(conn, task.spec_sha256)
    return Source(frozen=_overridden(house, spec, task, options), given=_given(options), task=task)


def of_template(house: House, conn: Connection, use: TemplateUse, project_id: ProjectId, options: RunOptions) -> Source:
    """Sensitive parameters become sensitive variables. Raises NotFound TEMPLATE_NOT_FOUND, InvalidArgument."""
    newest = reads.template(conn, use.template_id)
    if newest is None or newest.project_id != project_id:
        raise NotFound(ErrorCode.TEMPLATE_NOT_FOUND)
    template = reads.template_version(conn, newest, use.version)
    spec = house.spec(conn, template.spec_sha256)
    values = filled_values(template.parameters, fitting(template.parameters, use.parameters))
    allow = template.allow_shell_substitution
    refuse(
        *check_given(template.parameters, use.parameters, "template.parameters"),
        *check_rendered(spec, values, "spec", allow_shell_substitution=allow, refuse_unknown=False),
    )
    rules = task_of(template)
    rules = replace(rules, variables=(*rules.variables, *remaining(template.parameters, {})))
    frozen = _overridden(house, filled(spec, values), rules, options)
    refuse(*validate_size(len(frozen.data), frozen.spec))
    sensitive = {parameter.name for parameter in template.parameters if parameter.sensitive}
    return Source(frozen=frozen, given=_given(options, use.parameters, sensitive), template=rules)


def _given(
    options: RunOptions, parameters: Mapping[str, str] | None = None, sensitive: set[str] | None = None
) -> Given:
    more = {name: value for name, value in (parameters or {}).items() if name in (sensitive or ())}
    return Given(values={**options.variables, **more}, sensitive=options.sensitive_variables, fresh=True)


def _overridden(house: House, spec: RunSpec, rules: Task, options: RunOptions) -> FrozenSpec:
    """The spec with what this run does otherwise. Raises InvalidArgument."""
    lease_s = house.timing.lease_s(0)
    if options.overrides is None:
        refuse(*validate_spec(spec, lease_s=lease_s))
        return house.specs.freeze(spec)
    refuse(*check_allowed(options.overrides, rules.allowed_overrides, "options.overrides"))
    spec = overridden(spec, options.overrides)
    places = check_places(spec, "options.overrides", allow_shell_substitution=True)
    refuse(*validate_spec(spec, lease_s=lease_s, path="options.overrides"), *places)
    return house.specs.freeze(spec)
