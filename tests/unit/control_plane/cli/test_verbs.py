"""Every verb sends the request that it should, as the principal whose token is known."""

from __future__ import annotations

from typing import Any

import pytest
from banksman.v1 import (
    access_pb2,
    notification_pb2,
    project_pb2,
    report_pb2,
    run_pb2,
    runner_pb2,
    schedule_pb2,
    secret_pb2,
    spec_pb2,
    system_pb2,
    task_pb2,
)
from google.protobuf import empty_pb2, timestamp_pb2

from tests.unit.control_plane.cli.console import TOKEN, banksman
from tests.unit.control_plane.cli.things import ENDED, PROJECT, RUN, RUNNER, SCHEDULE, TASK, seconds

EMPTY = empty_pb2.Empty()
IN = spec_pb2.SELECTOR_OPERATOR_IN
MAIN = spec_pb2.STEP_KIND_MAIN


EXEC_SPEC = spec_pb2.RunSpec(
    steps=[
        spec_pb2.Step(
            kind=MAIN,
            command=spec_pb2.Command(
                argv=["make", "-C", "src", "all"], working_directory="src", stdin=b"in", success_exit_codes=[0, 3]
            ),
        )
    ],
    env=[spec_pb2.EnvVar(name="A", value="x=1"), spec_pb2.EnvVar(name="KEY", secret_ref="deploy")],
    selectors=[spec_pb2.Selector(key="os", operator=IN, values=["linux"])],
    timeout=seconds(5400),
    idle_timeout=seconds(30),
    grace=seconds(0),
    stop_signal="SIGINT",
    runner="host",
    merge_output=True,
    priority=-5,
    retry=spec_pb2.RetryPolicy(max_attempts=3),
    loss=spec_pb2.LossPolicy(on_lost=spec_pb2.ON_LOST_RETRY, lost_after=seconds(600)),
)
EXEC = (
    "run exec -d --label os=linux -e A=x=1 --secret deploy=KEY --cwd src --timeout 1h30m --idle-timeout 30s --grace 0s "
    "--stop-signal SIGINT --runner host --merge-output --priority -5 --retry 2 --on-lost retry --lost-after 10m "
    "--success-exit-code 0 --success-exit-code 3 --title nice --meta pr=7 --project web -- make -C src all"
)

# Command line, method, request (without its request_id), answer.
ROWS: list[tuple[str, str, Any, Any]] = [
    (
        EXEC,
        "CreateRun",
        run_pb2.CreateRunRequest(
            project="web", spec=EXEC_SPEC, options=run_pb2.RunOptions(title="nice", trigger_metadata={"pr": "7"})
        ),
        RUN,
    ),
    ("run list", "ListRuns", run_pb2.ListRunsRequest(page_size=20), run_pb2.ListRunsResponse()),
    (
        "run list --state failed --state active --task build --since 2h --limit 5",
        "ListRuns",
        run_pb2.ListRunsRequest(
            page_size=5,
            states=[
                run_pb2.RUN_STATE_FAILED,
                run_pb2.RUN_STATE_QUEUED,
                run_pb2.RUN_STATE_ASSIGNED,
                run_pb2.RUN_STATE_RUNNING,
                run_pb2.RUN_STATE_CANCELLING,
            ],
            task="build",
            created_after=timestamp_pb2.Timestamp(seconds=1767348000),
        ),
        run_pb2.ListRunsResponse(),
    ),
    ("run get @last", "GetRun", run_pb2.GetRunRequest(run="@last"), RUN),
    (
        "run retry 12345678 --use-newest-spec",
        "RetryRun",
        run_pb2.RetryRunRequest(run="12345678", use_newest_spec=True),
        RUN,
    ),
    (
        "run cancel @last --note why --grace 5s --signal SIGINT --force",
        "CancelRun",
        run_pb2.CancelRunRequest(run="@last", note="why", grace=seconds(5), signal="SIGINT", force=True),
        ENDED,
    ),
    (
        "run wait @last --for settled --wait-timeout 20s",
        "WaitRun",
        run_pb2.WaitRunRequest(run="@last", wait_for=run_pb2.WAIT_FOR_SETTLED, timeout=seconds(20)),
        run_pb2.Run(state=run_pb2.RUN_STATE_SUCCEEDED, settled_at=timestamp_pb2.Timestamp(seconds=1)),
    ),
    (
        "task create build --description d --tag t --task-label a=b --inactive -- make",
        "CreateTask",
        task_pb2.CreateTaskRequest(
            task=task_pb2.Task(
                name="build",
                description="d",
                tags=["t"],
                active=False,
                labels={"a": "b"},
                spec=spec_pb2.RunSpec(steps=[spec_pb2.Step(kind=MAIN, command=spec_pb2.Command(argv=["make"]))]),
            )
        ),
        TASK,
    ),
    (
        "task list --prefix b",
        "ListTasks",
        task_pb2.ListTasksRequest(name_prefix="b", page_size=1000),
        task_pb2.ListTasksResponse(tasks=[TASK]),
    ),
    ("task get build", "GetTask", task_pb2.GetTaskRequest(task="build"), TASK),
    ("task delete build", "DeleteTask", task_pb2.DeleteTaskRequest(task="build"), EMPTY),
    (
        "task run build --priority 7 --deadline 1h --not-before 10m",
        "RunTask",
        task_pb2.RunTaskRequest(
            task="build",
            options=run_pb2.RunOptions(
                priority=7,
                deadline=timestamp_pb2.Timestamp(seconds=1767358800),
                not_before=timestamp_pb2.Timestamp(seconds=1767355800),
            ),
        ),
        RUN,
    ),
    (
        "schedule create nightly --task build --cron @daily --tz Europe/Berlin --overlap allow --catch-up one --paused",
        "CreateSchedule",
        schedule_pb2.CreateScheduleRequest(
            schedule=schedule_pb2.Schedule(
                name="nightly",
                task_id="build",
                cron="@daily",
                time_zone="Europe/Berlin",
                overlap=schedule_pb2.OVERLAP_POLICY_ALLOW,
                catch_up=schedule_pb2.CATCH_UP_POLICY_ONE,
                paused=True,
            )
        ),
        SCHEDULE,
    ),
    (
        "schedule list --task build",
        "ListSchedules",
        schedule_pb2.ListSchedulesRequest(task="build", page_size=1000),
        schedule_pb2.ListSchedulesResponse(schedules=[SCHEDULE]),
    ),
    ("schedule get nightly", "GetSchedule", schedule_pb2.GetScheduleRequest(schedule="nightly"), SCHEDULE),
    ("schedule delete nightly", "DeleteSchedule", schedule_pb2.DeleteScheduleRequest(schedule="nightly"), EMPTY),
    (
        "schedule pause nightly --note n",
        "PauseSchedule",
        schedule_pb2.PauseScheduleRequest(schedule="nightly", note="n"),
        SCHEDULE,
    ),
    ("schedule resume nightly", "ResumeSchedule", schedule_pb2.ResumeScheduleRequest(schedule="nightly"), SCHEDULE),
    ("schedule trigger nightly", "TriggerSchedule", schedule_pb2.TriggerScheduleRequest(schedule="nightly"), RUN),
    (
        "schedule next nightly --count 3",
        "PreviewSchedule",
        schedule_pb2.PreviewScheduleRequest(schedule="nightly", count=3),
        schedule_pb2.PreviewScheduleResponse(),
    ),
    (
        "schedule next --every 15m",
        "PreviewSchedule",
        schedule_pb2.PreviewScheduleRequest(draft=schedule_pb2.Schedule(every=seconds(900)), count=10),
        schedule_pb2.PreviewScheduleResponse(fire_times=[timestamp_pb2.Timestamp(seconds=1)], time_zone="UTC"),
    ),
    (
        "project create web --description d",
        "CreateProject",
        project_pb2.CreateProjectRequest(project=project_pb2.Project(name="web", description="d")),
        PROJECT,
    ),
    (
        "project list",
        "ListProjects",
        project_pb2.ListProjectsRequest(page_size=1000),
        project_pb2.ListProjectsResponse(projects=[PROJECT]),
    ),
    ("project get web", "GetProject", project_pb2.GetProjectRequest(project="web"), PROJECT),
    ("project delete web", "DeleteProject", project_pb2.DeleteProjectRequest(project="web"), EMPTY),
    (
        "principal create ci --kind service --grant-project web",
        "CreatePrincipal",
        access_pb2.CreatePrincipalRequest(
            principal=access_pb2.Principal(name="ci", kind=access_pb2.PRINCIPAL_KIND_SERVICE, project_ids=["web"])
        ),
        access_pb2.Principal(id="x", name="ci"),
    ),
    (
        "principal list",
        "ListPrincipals",
        access_pb2.ListPrincipalsRequest(page_size=1000),
        access_pb2.ListPrincipalsResponse(),
    ),
    (
        "token create --principal ci --note n --lifetime 90d",
        "CreateToken",
        access_pb2.CreateTokenRequest(principal="ci", note="n", lifetime=seconds(90 * 86400)),
        access_pb2.CreateTokenResponse(token=access_pb2.Token(id="x"), secret="bnk_service_x"),
    ),
    (
        "token list --all",
        "ListTokens",
        access_pb2.ListTokensRequest(principal="*", page_size=1000),
        access_pb2.ListTokensResponse(),
    ),
    ("token revoke x", "RevokeToken", access_pb2.RevokeTokenRequest(token="x"), EMPTY),
    (
        "notification list --run r --state failed",
        "ListDeliveries",
        notification_pb2.ListDeliveriesRequest(run="r", state=notification_pb2.DELIVERY_STATE_FAILED, page_size=1000),
        notification_pb2.ListDeliveriesResponse(),
    ),
    (
        "notification redeliver x",
        "RedeliverNotification",
        notification_pb2.RedeliverNotificationRequest(delivery="x"),
        notification_pb2.Delivery(id="x"),
    ),
    (
        "run report r --format md",
        "GetReport",
        report_pb2.GetReportRequest(run="r", format=task_pb2.REPORT_FORMAT_MARKDOWN),
        report_pb2.GetReportResponse(body=b"# r\n", media_type="text/markdown; charset=utf-8"),
    ),
    ("run report r --list", "ListReports", report_pb2.ListReportsRequest(run="r"), report_pb2.ListReportsResponse()),
    ("secret list", "ListSecrets", secret_pb2.ListSecretsRequest(page_size=1000), secret_pb2.ListSecretsResponse()),
    ("secret rm KEY", "DeleteSecret", secret_pb2.DeleteSecretRequest(name="KEY"), EMPTY),
    (
        "secret set KEY",
        "SetSecret",
        secret_pb2.SetSecretRequest(name="KEY", value=b"in"),
        secret_pb2.Secret(name="KEY", version=1),
    ),
    (
        "runner list --all",
        "ListRunners",
        runner_pb2.ListRunnersRequest(include_revoked=True, page_size=1000),
        runner_pb2.ListRunnersResponse(runners=[RUNNER]),
    ),
    ("runner get host", "GetRunner", runner_pb2.GetRunnerRequest(runner="host"), RUNNER),
    ("runner drain host", "DrainRunner", runner_pb2.DrainRunnerRequest(runner="host"), RUNNER),
    ("runner resume host", "ResumeRunner", runner_pb2.ResumeRunnerRequest(runner="host"), RUNNER),
    ("runner revoke host", "RevokeRunner", runner_pb2.RevokeRunnerRequest(runner="host"), RUNNER),
    (
        "runner join-token create --pool p --grant os=linux --allow-project web --lifetime 1h",
        "CreateJoinToken",
        runner_pb2.CreateJoinTokenRequest(
            pool="p", granted_labels={"os": "linux"}, allowed_projects=["web"], lifetime=seconds(3600)
        ),
        runner_pb2.CreateJoinTokenResponse(secret="bnk_join_x"),
    ),
    (
        "runner join-token list",
        "ListJoinTokens",
        runner_pb2.ListJoinTokensRequest(page_size=1000),
        runner_pb2.ListJoinTokensResponse(),
    ),
    ("runner join-token rm x", "DeleteJoinToken", runner_pb2.DeleteJoinTokenRequest(join_token="x"), EMPTY),
    ("whoami", "WhoAmI", access_pb2.WhoAmIRequest(), access_pb2.Principal(name="me")),
    ("version", "GetServerInfo", system_pb2.GetServerInfoRequest(), system_pb2.GetServerInfoResponse(version="9")),
    ("status -o json", "GetStatus", system_pb2.GetStatusRequest(), system_pb2.GetStatusResponse()),
]


@pytest.mark.parametrize(("line", "method", "request_", "answer"), ROWS, ids=[row[0][:40] for row in ROWS])
def test_a_verb_sends_its_request(line: str, method: str, request_: Any, answer: Any) -> None:
    outcome = banksman(*line.split(), script=[(method, answer)], given=b"in")
    (call,) = outcome.calls
    if "request_id" in type(call.request).DESCRIPTOR.fields_by_name:
        assert len(call.request.request_id) == 36
        call.request.request_id = ""
    assert call.request == request_
    assert call.metadata["authorization"] == f"Bearer {TOKEN}"
    assert call.timeout_s is not None
    assert outcome.exit_code == 0
    assert TOKEN not in outcome.stdout + outcome.stderr
