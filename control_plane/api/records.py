"""Everything around runs, as messages: tasks, projects, principals, tokens, runners, secrets, schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from banksman.v1 import access_pb2, limit_pb2, project_pb2, runner_pb2, schedule_pb2, secret_pb2, task_pb2

from control_plane.api.convert import CONCURRENCY, SPEC
from control_plane.api.mapping import Plan
from control_plane.domain.concurrency import ConcurrencyLimit
from control_plane.domain.principal import JoinToken, Principal, PrincipalKind, Token
from control_plane.domain.project import Project, Retention
from control_plane.domain.runner import CloneAlarm, Runner, RunnerAttempt
from control_plane.domain.schedule import CatchUpPolicy, Firing, OverlapPolicy, Schedule, ScheduleDraft
from control_plane.domain.secret import Secret
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import NotificationSettings, ReportSettings, Task
from control_plane.domain.variables import UnknownVariables, Variable
from control_plane.lifecycle.backfills import Range

VARIABLE = Plan(Variable, task_pb2.Variable)
REPORT_SETTINGS = Plan(ReportSettings, task_pb2.ReportSettings)
NOTIFICATION_SETTINGS = Plan(NotificationSettings, task_pb2.NotificationSettings)
_OF_A_TASK: dict[type, Plan[Any, Any]] = {
    Variable: VARIABLE,
    ReportSettings: REPORT_SETTINGS,
    NotificationSettings: NOTIFICATION_SETTINGS,
}
TASK = Plan(Task, task_pb2.Task, stored=True, nested=_OF_A_TASK, absent=frozenset({"spec", "schedules"}))
RETENTION = Plan(Retention, limit_pb2.Retention)
PROJECT = Plan(Project, project_pb2.Project, stored=True, nested={ConcurrencyLimit: CONCURRENCY, Retention: RETENTION})
PRINCIPAL = Plan(Principal, access_pb2.Principal, stored=True)
TOKEN = Plan(Token, access_pb2.Token, stored=True)
JOIN_TOKEN = Plan(JoinToken, runner_pb2.JoinToken, stored=True)
RUNNER = Plan(
    Runner,
    runner_pb2.Runner,
    stored=True,
    nested={
        RunnerAttempt: Plan(RunnerAttempt, runner_pb2.RunnerAttempt),
        CloneAlarm: Plan(CloneAlarm, runner_pb2.CloneAlarm),
    },
)
SECRET = Plan(Secret, secret_pb2.Secret, stored=True)
SCHEDULE = Plan(Schedule, schedule_pb2.Schedule, stored=True)


def task_message(task: Task, spec: RunSpec | None = None) -> task_pb2.Task:
    """A task as its readers see it; lists leave the spec out."""
    message = TASK.encode(task)
    if spec is not None:
        message.spec.CopyFrom(SPEC.encode(spec))
    return message


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPrincipal:
    """What a caller may say about a principal that is to be; the rest of the message is the server's."""

    kind: PrincipalKind
    name: str = ""
    admin: bool = False
    project_ids: tuple[str, ...] = ()


NEW_PRINCIPAL = Plan(AskedPrincipal, access_pb2.Principal, absent=frozenset({"id", "created_at", "disabled_at"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSchedule:
    """What a caller may say about a schedule; `task_id` is an id or a name."""

    name: str = ""
    task_id: str = ""
    cron: str = ""
    every_s: float | None = None
    once: datetime | None = None
    time_zone: str = "UTC"
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catch_up: CatchUpPolicy = CatchUpPolicy.SKIP
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter_s: float = 0.0
    max_catch_up: int = 0
    pause_after_failures: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)
    paused: bool = False
    pause_note: str = ""

    def draft(self) -> ScheduleDraft:
        """The same as lifecycle takes it."""
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "task_id"}
        return ScheduleDraft(**said, task=self.task_id)


_ASKED = {each.name.removesuffix("_s") for each in fields(AskedSchedule)}
SCHEDULE_DRAFT = Plan(
    AskedSchedule,
    schedule_pb2.Schedule,
    absent=frozenset(schedule_pb2.Schedule.DESCRIPTOR.fields_by_name) - _ASKED,
)
FIRING = Plan(Firing, schedule_pb2.Firing)
BACKFILL = Plan(Range, schedule_pb2.BackfillScheduleRequest, absent=frozenset({"project", "schedule"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTask:
    """What a caller may say about a task beside its spec; None and "" where it is silent."""

    id: str = ""
    name: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    active: bool | None = None
    etag: str = ""
    variables: tuple[Variable, ...] = ()
    owner: str = ""
    is_public: bool | None = None
    schedules: tuple[AskedSchedule, ...] = ()
    report: ReportSettings = field(default_factory=ReportSettings)
    notifications: tuple[NotificationSettings, ...] = ()
    unknown_variables: UnknownVariables = UnknownVariables.KEEP
    allow_shell_substitution: bool | None = None
    allowed_overrides: tuple[str, ...] = ()


ASKED_TASK = Plan(
    AskedTask,
    task_pb2.Task,
    nested={**_OF_A_TASK, AskedSchedule: SCHEDULE_DRAFT},
    absent=frozenset(
        {"project_id", "spec", "created_by", "created_at", "updated_at", "deleted_at"}
        | {"template_id", "template_name", "template_version"}
    ),
)
