"""What requests say about templates: every field that has no meaning is named in one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from banksman.v1 import task_pb2, template_pb2

from control_plane.api.convert import SPEC
from control_plane.api.mapping import BadFields, within
from control_plane.api.pages import list_filter
from control_plane.api.task_requests import OF_THEIR_OWN, Asked, changed, new_task_of, partly
from control_plane.api.template_records import ASKED_TEMPLATE, AskedTemplate
from control_plane.api.values import texts_of
from control_plane.auth.visibility import tasks_of
from control_plane.domain.errors import FieldViolation
from control_plane.domain.filter_fields import TEMPLATE_FIELDS
from control_plane.domain.ids import ProjectId
from control_plane.domain.principal import Caller
from control_plane.domain.spec import RunSpec
from control_plane.domain.template import Template
from control_plane.lifecycle.templates import Instance, NewTemplate, TemplateChange
from control_plane.storage.reads import TemplateFilter

WRITABLE = (
    *("name", "description", "parameters", "spec", "labels", "tags", "variables", "unknown_variables"),
    *("allow_shell_substitution", "allowed_overrides", "report", "notifications", "owner", "is_public"),
)
# What a task that is made of a template says itself; its variables and the like come from the template.
_OF_THE_TASK = frozenset({"name", "description", "labels", "tags", "active", "owner", "is_public", "schedules"})


def new_template_of(message: template_pb2.Template, project_id: ProjectId) -> Asked[NewTemplate]:
    """A new template without its owner."""
    asked, wrong = partly(ASKED_TEMPLATE, message, "template", AskedTemplate())
    spec, wrong_spec = partly(SPEC, message.spec, "template.spec", RunSpec(steps=()))
    said: dict[str, Any] = {name: getattr(asked, name) for name in WRITABLE if name not in OF_THEIR_OWN}
    said |= {
        "labels": dict(asked.labels),
        "allow_shell_substitution": bool(asked.allow_shell_substitution),
        "is_public": bool(asked.is_public),
    }
    return Asked(what=NewTemplate(project_id=project_id, spec=spec, **said), wrong=(*wrong, *wrong_spec))


def change_of(request: template_pb2.UpdateTemplateRequest) -> Asked[TemplateChange]:
    """The change without the owner, whom `owner_of` names."""
    reading = (ASKED_TEMPLATE, AskedTemplate())
    return changed(request.template, "template", request.update_mask.paths, WRITABLE, reading, TemplateChange)


def instance_of(request: template_pb2.InstantiateTemplateRequest, template: Template) -> Asked[Instance]:
    """A task of a template, without its owner."""
    task = new_task_of(request.task, template.project_id)
    parameters, wrong = _texts(request.parameters)
    instance = Instance(
        template_id=template.id,
        version=request.version,
        parameters=parameters,
        secret_parameters=dict(request.secret_parameters),
        task=task.what,
    )
    return Asked(what=instance, wrong=(*task.wrong, *wrong, *_foreign(request.task)))


def owned_by(instance: Instance, owner: Any) -> Instance:
    return replace(instance, task=replace(instance.task, owner=owner))


def template_filter_of(request: template_pb2.ListTemplatesRequest, caller: Caller) -> TemplateFilter:
    """Raises InvalidArgument that says where the filter is wrong."""
    return TemplateFilter(
        name_prefix=request.name_prefix,
        matching=list_filter(request, TEMPLATE_FIELDS),
        visible_to=tasks_of(caller),
    )


def _texts(values: Mapping[str, Any]) -> tuple[dict[str, str], tuple[FieldViolation, ...]]:
    try:
        return texts_of(values), ()
    except BadFields as error:
        rest = error.rest if isinstance(error.rest, dict) else {}
        return rest, tuple(within("parameters", violation) for violation in error.violations)


def _foreign(task: task_pb2.Task) -> tuple[FieldViolation, ...]:
    return tuple(
        FieldViolation(field=f"task.{field.name}", description="comes from the template")
        for field, _ in task.ListFields()
        if field.name not in _OF_THE_TASK
    )
