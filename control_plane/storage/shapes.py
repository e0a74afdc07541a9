"""Which entity lies in which table."""

from __future__ import annotations

from typing import Final

from control_plane.domain.artifact import Artifact
from control_plane.domain.attempt import Attempt
from control_plane.domain.audit import AuditEvent, AuditHead
from control_plane.domain.history import RunEventRecord
from control_plane.domain.notification import Delivery
from control_plane.domain.principal import JoinToken, Principal, Token
from control_plane.domain.project import Project
from control_plane.domain.report import Report
from control_plane.domain.run import Run
from control_plane.domain.runner import Runner
from control_plane.domain.schedule import Schedule
from control_plane.domain.secret import Secret
from control_plane.domain.task import Task
from control_plane.domain.template import Template
from control_plane.storage import tables
from control_plane.storage.rows import Shape

PROJECT: Final = Shape(Project, tables.PROJECTS)
PRINCIPAL: Final = Shape(Principal, tables.PRINCIPALS)
TOKEN: Final = Shape(Token, tables.TOKENS)
JOIN_TOKEN: Final = Shape(JoinToken, tables.JOIN_TOKENS)
RUNNER: Final = Shape(Runner, tables.RUNNERS)
TASK: Final = Shape(Task, tables.TASKS)
TEMPLATE: Final = Shape(Template, tables.TEMPLATES)
TEMPLATE_VERSION: Final = Shape(Template, tables.TEMPLATE_VERSIONS)
RUN: Final = Shape(Run, tables.RUNS)
ATTEMPT: Final = Shape(Attempt, tables.ATTEMPTS)
RUN_EVENT: Final = Shape(RunEventRecord, tables.RUN_EVENTS)
SCHEDULE: Final = Shape(Schedule, tables.SCHEDULES)
SECRET: Final = Shape(Secret, tables.SECRETS)
ARTIFACT: Final = Shape(Artifact, tables.ARTIFACTS)
AUDIT_EVENT: Final = Shape(AuditEvent, tables.AUDIT_EVENTS)
DELIVERY: Final = Shape(Delivery, tables.DELIVERIES)
REPORT: Final = Shape(Report, tables.REPORTS)
AUDIT_HEAD: Final = Shape(AuditHead, tables.AUDIT_HEADS)
