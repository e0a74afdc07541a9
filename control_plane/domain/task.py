"""A task: a saved definition of what to run, for whom, and who is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.domain.ids import PrincipalId, ProjectId, TaskId, TemplateId
from control_plane.domain.variables import UnknownVariables, Variable


class ReportFormat(StrEnum):
    JSON = "JSON"
    MARKDOWN = "MARKDOWN"
    HTML = "HTML"
    PDF = "PDF"


class NotificationEvent(StrEnum):
    CREATED = "CREATED"
    STARTED = "STARTED"
    FINISHED = "FINISHED"
    SETTLED = "SETTLED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    SCHEDULE_PAUSED = "SCHEDULE_PAUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """Off unless enabled; then in at least one format."""

    enabled: bool = False
    formats: tuple[ReportFormat, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationSettings:
    """A webhook, signed with a secret if one is named; or a channel whose whole URL is in the secret."""

    events: tuple[NotificationEvent, ...] = ()
    webhook_url: str = ""
    secret_ref: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task as stored; its spec is stored once by SHA-256 and loaded apart."""

    id: TaskId
    project_id: ProjectId
    name: str
    description: str = ""
    spec_sha256: str
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    active: bool = True
    variables: tuple[Variable, ...] = ()
    unknown_variables: UnknownVariables = UnknownVariables.KEEP
    allow_shell_substitution: bool = False
    # Names of fields of RunOverrides that a run may use.
    allowed_overrides: tuple[str, ...] = ()
    # Who may change it, beside admins.
    owner: PrincipalId
    # Whether the other members of its project see it and may run it.
    is_public: bool = False
    report: ReportSettings = field(default_factory=ReportSettings)
    notifications: tuple[NotificationSettings, ...] = ()
    created_by: PrincipalId
    created_at: datetime
    updated_at: datetime
    etag: str
    # A deleted task's row stays for its runs' history, and until it is purged; its name is free again.
    deleted_at: datetime | None = None
    # The template that it was made of.
    template_id: TemplateId | None = None
    template_name: str = ""
    template_version: int = 0
