"""A template: a definition with declared parameters, from which tasks and runs are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.domain.ids import PrincipalId, ProjectId, TemplateId
from control_plane.domain.task import NotificationSettings, ReportSettings
from control_plane.domain.variables import UnknownVariables, Variable


class ParameterType(StrEnum):
    """What a parameter's text has to say."""

    STRING = "STRING"
    INTEGER = "INTEGER"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateParameter:
    """A parameter as a template declares it; no allowed values means any of its type.

    A sensitive one is never filled in: it becomes a sensitive variable.
    """

    name: str
    type: ParameterType = ParameterType.STRING
    default_value: str | None = None
    required: bool = False
    allowed_values: tuple[str, ...] = ()
    description: str = ""
    sensitive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The template that a task or a run was made of, as it was then."""

    template_id: TemplateId
    template_name: str
    template_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One version of a template as stored; its spec is stored once by SHA-256 and loaded apart."""

    id: TemplateId
    project_id: ProjectId
    name: str
    description: str = ""
    version: int = 1
    parameters: tuple[TemplateParameter, ...] = ()
    spec_sha256: str
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()
    unknown_variables: UnknownVariables = UnknownVariables.KEEP
    allow_shell_substitution: bool = False
    allowed_overrides: tuple[str, ...] = ()
    report: ReportSettings = field(default_factory=ReportSettings)
    notifications: tuple[NotificationSettings, ...] = ()
    # Who may change it, beside admins.
    owner: PrincipalId
    # Whether the other members of its project see it and may use it.
    is_public: bool = False
    created_by: PrincipalId
    created_at: datetime
    # Who made this version.
    updated_by: PrincipalId
    updated_at: datetime
    etag: str

    @property
    def origin(self) -> Origin:
        return Origin(template_id=self.id, template_name=self.name, template_version=self.version)
