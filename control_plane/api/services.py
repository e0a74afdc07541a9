"""Puts every service of the contract behind one door."""

from __future__ import annotations

from banksman.v1 import (
    access_pb2_grpc,
    audit_pb2_grpc,
    notification_pb2_grpc,
    project_pb2_grpc,
    report_pb2_grpc,
    run_pb2_grpc,
    runner_pb2_grpc,
    schedule_pb2_grpc,
    secret_pb2_grpc,
    session_pb2_grpc,
    system_pb2_grpc,
    task_pb2_grpc,
    template_pb2_grpc,
)

from control_plane.api.access import AccessServicer
from control_plane.api.audit import AuditServicer
from control_plane.api.desk import Desk
from control_plane.api.entry import RunnerSessionServicer
from control_plane.api.logs import LogServicer
from control_plane.api.notifications import NotificationServicer
from control_plane.api.projects import ProjectServicer
from control_plane.api.reports import ReportServicer
from control_plane.api.runners import RunnerServicer
from control_plane.api.runs import RunServicer
from control_plane.api.schedules import ScheduleServicer
from control_plane.api.secrets import SecretServicer
from control_plane.api.server import Door
from control_plane.api.system import SystemServicer
from control_plane.api.tasks import TaskServicer
from control_plane.api.templates import TemplateServicer

NAMES = (
    "banksman.v1.TaskService",
    "banksman.v1.TemplateService",
    "banksman.v1.RunService",
    "banksman.v1.LogService",
    "banksman.v1.ScheduleService",
    "banksman.v1.ProjectService",
    "banksman.v1.AccessService",
    "banksman.v1.RunnerService",
    "banksman.v1.RunnerSessionService",
    "banksman.v1.SecretService",
    "banksman.v1.SystemService",
    "banksman.v1.AuditService",
    "banksman.v1.NotificationService",
    "banksman.v1.ReportService",
)


def add_services(door: Door, desk: Desk) -> None:
    """Everything that the contract names, with health and reflection for it."""
    server = door.server
    task_pb2_grpc.add_TaskServiceServicer_to_server(TaskServicer(desk), server)
    template_pb2_grpc.add_TemplateServiceServicer_to_server(TemplateServicer(desk), server)
    run_pb2_grpc.add_RunServiceServicer_to_server(RunServicer(desk), server)
    LogServicer(desk).add_to(server)
    schedule_pb2_grpc.add_ScheduleServiceServicer_to_server(ScheduleServicer(desk), server)
    project_pb2_grpc.add_ProjectServiceServicer_to_server(ProjectServicer(desk), server)
    access_pb2_grpc.add_AccessServiceServicer_to_server(AccessServicer(desk), server)
    runner_pb2_grpc.add_RunnerServiceServicer_to_server(RunnerServicer(desk), server)
    session_pb2_grpc.add_RunnerSessionServiceServicer_to_server(RunnerSessionServicer(desk), server)
    secret_pb2_grpc.add_SecretServiceServicer_to_server(SecretServicer(desk), server)
    system_pb2_grpc.add_SystemServiceServicer_to_server(SystemServicer(desk), server)
    audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(desk), server)
    notification_pb2_grpc.add_NotificationServiceServicer_to_server(NotificationServicer(desk), server)
    report_pb2_grpc.add_ReportServiceServicer_to_server(ReportServicer(desk), server)
    door.announce(*NAMES)
