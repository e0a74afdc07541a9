"""Templates as messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from banksman.v1 import run_pb2, template_pb2

from control_plane.api.convert import SPEC
from control_plane.api.mapping import Plan
from control_plane.api.records import NOTIFICATION_SETTINGS, REPORT_SETTINGS, VARIABLE
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import NotificationSettings, ReportSettings
from control_plane.domain.template import Template, TemplateParameter
from control_plane.domain.variables import UnknownVariables, Variable

_NESTED: dict[type, Plan[Any, Any]] = {
    TemplateParameter: Plan(TemplateParameter, template_pb2.TemplateParameter),
    Variable: VARIABLE,
    ReportSettings: REPORT_SETTINGS,
    NotificationSettings: NOTIFICATION_SETTINGS,
}
TEMPLATE = Plan(Template, template_pb2.Template, stored=True, nested=_NESTED, absent=frozenset({"spec"}))


def template_message(template: Template, spec: RunSpec | None = None) -> template_pb2.Template:
    """A template as its readers see it; lists leave the spec out."""
    message = TEMPLATE.encode(template)
    if spec is not None:
        message.spec.CopyFrom(SPEC.encode(spec))
    return message


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTemplate:
    """What a caller may say about a template beside its spec; None and "" where it is silent."""

    id: str = ""
    name: str = ""
    description: str = ""
    parameters: tuple[TemplateParameter, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()
    unknown_variables: UnknownVariables = UnknownVariables.KEEP
    allow_shell_substitution: bool | None = None
    allowed_overrides: tuple[str, ...] = ()
    report: ReportSettings = field(default_factory=ReportSettings)
    notifications: tuple[NotificationSettings, ...] = ()
    owner: str = ""
    is_public: bool | None = None
    etag: str = ""


ASKED_TEMPLATE = Plan(
    AskedTemplate,
    template_pb2.Template,
    nested=_NESTED,
    absent=frozenset({"project_id", "version", "spec", "created_by", "created_at", "updated_by", "updated_at"}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedUse:
    """A template to run; by id or name."""

    template: str = ""
    version: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)


TEMPLATE_USE = Plan(AskedUse, run_pb2.TemplateUse)
