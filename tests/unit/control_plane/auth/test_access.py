"""Who may call what: the checked-in matrix names every method of the contract, and the rules agree with it."""

import importlib
import pkgutil

import banksman.v1
import pytest

from control_plane.auth import access
from control_plane.domain.errors import ErrorCode, PermissionDenied, Unauthenticated
from control_plane.domain.ids import PrincipalId, RunnerId
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from tests.fakes.clock import FakeClock

# Columns: nobody, runner, user, admin. A new method without a row fails the first test.
MATRIX = """
AccessService/CreatePrincipal            - - - y
AccessService/CreateToken                - - y y
AccessService/ListPrincipals             - - - y
AccessService/ListTokens                 - - y y
AccessService/RevokeToken                - - y y
AccessService/UpdatePrincipal            - - - y
AccessService/WhoAmI                     - - y y
AuditService/ExportAudit                 - - - y
AuditService/ListAuditEvents             - - - y
AuditService/VerifyAudit                 - - - y
LogService/ReadLogs                      - - y y
NotificationService/ListDeliveries       - - y y
NotificationService/RedeliverNotification - - y y
ProjectService/CreateProject             - - - y
ProjectService/DeleteProject             - - - y
ProjectService/GetProject                - - y y
ProjectService/ListProjects              - - y y
ProjectService/UpdateProject             - - - y
ReportService/GetReport                  - - y y
ReportService/ListReports                - - y y
RunService/CancelRun                     - - y y
RunService/CancelRuns                    - - y y
RunService/CreateRun                     - - y y
RunService/DeleteRun                     - - y y
RunService/DownloadArtifact              - - y y
RunService/GetRun                        - - y y
RunService/ListArtifacts                 - - y y
RunService/ListRunEvents                 - - y y
RunService/ListRuns                      - - y y
RunService/PinRun                        - - y y
RunService/RetryRun                      - - y y
RunService/UnpinRun                      - - y y
RunService/WaitRun                       - - y y
RunService/WatchRuns                     - - y y
RunnerService/CreateJoinToken            - - - y
RunnerService/DeleteJoinToken            - - - y
RunnerService/DrainRunner                - - - y
RunnerService/GetRunner                  - - y y
RunnerService/ListJoinTokens             - - - y
RunnerService/ListRunners                - - y y
RunnerService/MarkRunnerLost             - - - y
RunnerService/ResumeRunner               - - - y
RunnerService/RevokeRunner               - - - y
RunnerSessionService/Enroll              y y y y
RunnerSessionService/RenewCredential     y y y y
RunnerSessionService/Session             - y - -
RunnerSessionService/UploadArtifact      - y - -
ScheduleService/BackfillSchedule         - - y y
ScheduleService/CreateSchedule           - - y y
ScheduleService/DeleteSchedule           - - y y
ScheduleService/GetSchedule              - - y y
ScheduleService/ListFirings              - - y y
ScheduleService/ListSchedules            - - y y
ScheduleService/PauseSchedule            - - y y
ScheduleService/PreviewSchedule          - - y y
ScheduleService/ResumeSchedule           - - y y
ScheduleService/TriggerSchedule          - - y y
ScheduleService/UpdateSchedule           - - y y
SecretService/DeleteSecret               - - y y
SecretService/ListSecrets                - - y y
SecretService/SetSecret                  - - y y
SystemService/CollectGarbage             - - - y
SystemService/GetServerInfo              - - y y
SystemService/GetStatus                  - - y y
TaskService/CreateTask                   - - y y
TaskService/DeleteTask                   - - y y
TaskService/DeleteTaskRuns               - - y y
TaskService/GetTask                      - - y y
TaskService/ListTasks                    - - y y
TaskService/PurgeTask                    - - y y
TaskService/RunTask                      - - y y
TaskService/UndeleteTask                 - - y y
TaskService/UpdateTask                   - - y y
TemplateService/CreateTemplate           - - y y
TemplateService/DeleteTemplate           - - y y
TemplateService/GetTemplate              - - y y
TemplateService/InstantiateTemplate      - - y y
TemplateService/ListTemplates            - - y y
TemplateService/UpdateTemplate           - - y y
"""
ROWS = {line.split()[0]: line.split()[1:] for line in MATRIX.strip().splitlines()}


def methods() -> set[str]:
    """Every method of the contract, from its descriptors."""
    found = set()
    for module in pkgutil.iter_modules(banksman.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"banksman.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                found |= {f"{service.name}/{method.name}" for method in service.methods}
    return found


def caller(kind: PrincipalKind, *, admin: bool = False) -> Caller:
    principal = Principal(id=PrincipalId("p"), kind=kind, name="p", admin=admin, created_at=FakeClock().now())
    return Caller(principal=principal, runner_id=RunnerId("p") if kind is PrincipalKind.RUNNER else None)


CALLERS = (None, caller(PrincipalKind.RUNNER), caller(PrincipalKind.USER), caller(PrincipalKind.USER, admin=True))


def passes(method: str, who: Caller | None) -> bool:
    try:
        access.check(method, who)
    except (PermissionDenied, Unauthenticated):
        return False
    return True


def test_every_method_of_the_contract_has_a_row_and_no_row_is_left_over():
    assert methods() == set(ROWS)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_rules_say_what_the_matrix_says(name):
    told = ["y" if passes(f"/banksman.v1.{name}", who) else "-" for who in CALLERS]
    assert told == ROWS[name]


def test_a_service_may_do_what_a_user_may():
    service = caller(PrincipalKind.SERVICE)
    for name, (_, _, user, _) in ROWS.items():
        assert passes(f"/banksman.v1.{name}", service) == (user == "y")


def test_health_is_open_and_reflection_is_not():
    assert passes("/grpc.health.v1.Health/Check", None)
    assert not passes("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", None)
    assert passes("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", CALLERS[2])


def test_a_method_without_a_rule_is_refused_to_everybody():
    for who in CALLERS[1:]:
        with pytest.raises(PermissionDenied):
            access.check("/banksman.v1.RunService/DropEverything", who)
    with pytest.raises(Unauthenticated):
        access.check("/banksman.v1.RunService/DropEverything", None)


def test_a_runner_that_is_called_admin_is_still_a_runner():
    with pytest.raises(PermissionDenied) as caught:
        access.check("/banksman.v1.RunService/CreateRun", caller(PrincipalKind.RUNNER, admin=True))
    assert caught.value.code is ErrorCode.METHOD_FORBIDDEN
