"""Who may call what: every method of the contract has a line here, and what has none is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from control_plane.domain.errors import ErrorCode, PermissionDenied, Unauthenticated
from control_plane.domain.principal import Caller, PrincipalKind


class Rule(StrEnum):
    """Whom a method serves."""

    # Anybody, also without a token.
    OPEN = "OPEN"
    # Users and services.
    MEMBER = "MEMBER"
    # Users and services that are admins.
    ADMIN = "ADMIN"
    # Runners, by their credential.
    RUNNER = "RUNNER"


def _methods(service: str, rule: Rule, *names: str) -> dict[str, Rule]:
    return {f"/{service}/{name}": rule for name in names}


_V1 = "banksman.v1."
RULES: Mapping[str, Rule] = {
    **_methods(
        _V1 + "TaskService",
        Rule.MEMBER,
        *("CreateTask", "GetTask", "ListTasks", "UpdateTask", "DeleteTask", "UndeleteTask", "PurgeTask", "RunTask"),
        "DeleteTaskRuns",
    ),
    **_methods(
        _V1 + "TemplateService",
        Rule.MEMBER,
        *("CreateTemplate", "GetTemplate", "ListTemplates", "UpdateTemplate", "DeleteTemplate", "InstantiateTemplate"),
    ),
    **_methods(
        _V1 + "RunService",
        Rule.MEMBER,
        *("CreateRun", "GetRun", "ListRuns", "CancelRun", "RetryRun", "WaitRun", "WatchRuns", "ListRunEvents"),
        *("PinRun", "UnpinRun"),
        *("ListArtifacts", "DownloadArtifact"),
        *("CancelRuns", "DeleteRun"),
    ),
    **_methods(_V1 + "NotificationService", Rule.MEMBER, "ListDeliveries", "RedeliverNotification"),
    **_methods(_V1 + "ReportService", Rule.MEMBER, "GetReport", "ListReports"),
    **_methods(_V1 + "LogService", Rule.MEMBER, "ReadLogs"),
    **_methods(
        _V1 + "ScheduleService",
        Rule.MEMBER,
        *("CreateSchedule", "GetSchedule", "ListSchedules", "UpdateSchedule", "DeleteSchedule"),
        *("PauseSchedule", "ResumeSchedule", "TriggerSchedule", "PreviewSchedule", "BackfillSchedule", "ListFirings"),
    ),
    **_methods(_V1 + "ProjectService", Rule.MEMBER, "GetProject", "ListProjects"),
    **_methods(_V1 + "ProjectService", Rule.ADMIN, "CreateProject", "UpdateProject", "DeleteProject"),
    # A caller's own tokens; others' are for admins, which the verbs check.
    **_methods(_V1 + "AccessService", Rule.MEMBER, "WhoAmI", "CreateToken", "ListTokens", "RevokeToken"),
    **_methods(_V1 + "AccessService", Rule.ADMIN, "CreatePrincipal", "UpdatePrincipal", "ListPrincipals"),
    **_methods(_V1 + "RunnerService", Rule.MEMBER, "GetRunner", "ListRunners"),
    **_methods(
        _V1 + "RunnerService",
        Rule.ADMIN,
        *("DrainRunner", "ResumeRunner", "RevokeRunner", "MarkRunnerLost"),
        *("CreateJoinToken", "ListJoinTokens", "DeleteJoinToken"),
    ),
    **_methods(_V1 + "SecretService", Rule.MEMBER, "SetSecret", "ListSecrets", "DeleteSecret"),
    **_methods(_V1 + "SystemService", Rule.MEMBER, "GetServerInfo", "GetStatus"),
    **_methods(_V1 + "SystemService", Rule.ADMIN, "CollectGarbage"),
    **_methods(_V1 + "AuditService", Rule.ADMIN, "ListAuditEvents", "VerifyAudit", "ExportAudit"),
    # They carry their own proof: a join token, a signature.
    **_methods(_V1 + "RunnerSessionService", Rule.OPEN, "Enroll", "RenewCredential"),
    **_methods(_V1 + "RunnerSessionService", Rule.RUNNER, "Session", "UploadArtifact"),
    **_methods("grpc.health.v1.Health", Rule.OPEN, "Check", "Watch", "List"),
    **_methods("grpc.reflection.v1alpha.ServerReflection", Rule.MEMBER, "ServerReflectionInfo"),
    **_methods("grpc.reflection.v1.ServerReflection", Rule.MEMBER, "ServerReflectionInfo"),
}


def is_open(method: str) -> bool:
    """Whether the method needs no caller."""
    return RULES.get(method) is Rule.OPEN


def check(method: str, caller: Caller | None) -> None:
    """Let the call pass or say why not. Raises Unauthenticated, PermissionDenied."""
    rule = RULES.get(method)
    if rule is Rule.OPEN:
        return
    if caller is None:
        raise Unauthenticated(ErrorCode.TOKEN_MISSING)
    is_runner = caller.principal.kind is PrincipalKind.RUNNER
    if rule is None or is_runner != (rule is Rule.RUNNER):
        raise PermissionDenied(ErrorCode.METHOD_FORBIDDEN)
    if rule is Rule.ADMIN and not caller.principal.admin:
        raise PermissionDenied(ErrorCode.NOT_ADMIN)
