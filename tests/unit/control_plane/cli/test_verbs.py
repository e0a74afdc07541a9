"""Every verb sends the request that it should, as the principal whose token is known."""

from __future__ import annotations

from typing import Any

import grpc
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
from google.protobuf import duration_pb2, empty_pb2, timestamp_pb2

from tests.unit.control_plane.cli.console import TOKEN, banksman
from tests.unit.fake_channel import Refusal

RUN = run_pb2.Run(id="0199aaaa-bbbb-7ccc-8ddd-eeee12345678", state=run_pb2.RUN_STATE_QUEUED, is_active=True)
ENDED = run_pb2.Run(id=RUN.id, project_id="p1", state=run_pb2.RUN_STATE_CANCELLED, kill_confirmed=True)
TASK = task_pb2.Task(id="t1", name="build", etag="e1", spec=spec_pb2.RunSpec(slots=2, steps=[spec_pb2.Step()]))
SCHEDULE = schedule_pb2.Schedule(id="s1", name="nightly", cron="@daily", etag="e1")
PROJECT = project_pb2.Project(id="p1", name="web", etag="e1")
RUNNER = runner_pb2.Runner(id="r1", name="host", connected=True)
EMPTY = empty_pb2.Empty()
IN = spec_pb2.SELECTOR_OPERATOR_IN
MAIN = spec_pb2.STEP_KIND_MAIN


def seconds(count: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=count)


def updated_schedule() -> schedule_pb2.UpdateScheduleRequest:
    changed = schedule_pb2.Schedule(id="s1", name="nightly", every=seconds(900), etag="e1")
    request = schedule_pb2.UpdateScheduleRequest(schedule=changed)
    request.update_mask.paths.append("every")
    return request


def updated_task() -> task_pb2.UpdateTaskRequest:
    changed = task_pb2.Task(id="t1", name="build", etag="e1", active=True)
    changed.spec.CopyFrom(spec_pb2.RunSpec(slots=2, steps=[spec_pb2.Step()], timeout=seconds(60)))
    request = task_pb2.UpdateTaskRequest(task=changed)
    request.update_mask.paths.extend(["active", "spec"])
    return request


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


@pytest.mark.parametrize(
    ("line", "get", "stored", "method", "request_"),
    [
        ("schedule update nightly --every 15m", "GetSchedule", SCHEDULE, "UpdateSchedule", updated_schedule()),
        ("task update build --timeout 60s --active", "GetTask", TASK, "UpdateTask", updated_task()),
        (
            "project update web --description new",
            "GetProject",
            PROJECT,
            "UpdateProject",
            project_pb2.UpdateProjectRequest(
                project=project_pb2.Project(id="p1", name="web", description="new", etag="e1")
            ),
        ),
    ],
)
def test_an_update_gives_the_etag_back_and_names_what_it_changes(
    line: str, get: str, stored: Any, method: str, request_: Any
) -> None:
    outcome = banksman(*line.split(), script=[(get, stored), (method, stored)])
    assert outcome.exit_code == 0
    assert outcome.calls[1].request == request_


def test_an_empty_update_is_refused_before_anything_is_sent() -> None:
    outcome = banksman("project", "update", "web")
    assert outcome.exit_code == 2
    assert "nothing to change" in outcome.stderr


def test_the_project_comes_from_flag_then_environment() -> None:
    environ = {"BANKSMAN_URL": "http://127.0.0.1:1", "BANKSMAN_TOKEN": TOKEN, "BANKSMAN_PROJECT": "env"}
    page = task_pb2.ListTasksResponse()
    from_environment = banksman("task", "list", script=[("ListTasks", page)], environ=environ)
    assert from_environment.calls[0].request.project == "env"
    from_flag = banksman(
        "--project", "a", "task", "list", "--project", "b", script=[("ListTasks", page)], environ=environ
    )
    assert from_flag.calls[0].request.project == "b"


def test_a_list_is_read_page_by_page_up_to_its_limit() -> None:
    runs = [run_pb2.Run(id=f"run-{number:04}") for number in range(1500)]
    outcome = banksman(
        *["run", "list", "--limit", "1200", "-o", "name"],
        script=[
            ("ListRuns", run_pb2.ListRunsResponse(runs=runs[:1000], next_page_token="more")),
            ("ListRuns", run_pb2.ListRunsResponse(runs=runs[1000:], next_page_token="still more")),
        ],
    )
    assert outcome.stdout.split() == [run.id for run in runs[:1200]]
    assert [call.request.page_token for call in outcome.calls] == ["", "more"]
    assert [call.request.page_size for call in outcome.calls] == [1000, 200]


def test_detached_exec_prints_only_the_id() -> None:
    outcome = banksman("run", "exec", "-d", "--", "true", script=[("CreateRun", RUN)])
    assert outcome.stdout == RUN.id + "\n"


def test_a_created_token_is_the_only_thing_on_stdout() -> None:
    made = access_pb2.CreateTokenResponse(token=access_pb2.Token(id="x", principal_name="me"), secret="bnk_user_y")
    outcome = banksman("token", "create", script=[("CreateToken", made)])
    assert outcome.stdout == "bnk_user_y\n"


def test_a_token_whose_secret_was_lost_is_no_success() -> None:
    made = access_pb2.CreateTokenResponse(token=access_pb2.Token(id="x"))
    outcome = banksman("token", "create", script=[("CreateToken", made)])
    assert outcome.exit_code == 5
    assert "banksman token revoke x" in outcome.stderr


def test_cancel_waits_and_says_whether_the_kill_is_confirmed() -> None:
    attempt = run_pb2.Attempt(state=run_pb2.ATTEMPT_STATE_CANCELLED)
    cancelling = run_pb2.Run(id=RUN.id, project_id="p1", state=run_pb2.RUN_STATE_CANCELLING, is_active=True)
    gone = run_pb2.Run(id=RUN.id, state=run_pb2.RUN_STATE_CANCELLED, kill_confirmed=True, attempts=[attempt])
    outcome = banksman("run", "cancel", "@last", script=[("CancelRun", cancelling), ("WaitRun", gone)])
    assert outcome.calls[1].request.run == RUN.id
    assert "kill confirmed" in outcome.stderr
    unproven = run_pb2.Run(id=RUN.id, state=run_pb2.RUN_STATE_CANCELLED, attempts=[attempt])
    outcome = banksman("run", "cancel", "@last", "--force", script=[("CancelRun", unproven)])
    assert "NOT confirmed" in outcome.stderr


def test_a_wait_stays_with_the_run_that_last_meant_at_first() -> None:
    running = run_pb2.Run(id=RUN.id, project_id="p1", state=run_pb2.RUN_STATE_RUNNING, is_active=True)
    outcome = banksman("run", "wait", "@last", script=[("WaitRun", running), ("WaitRun", ENDED)])
    assert outcome.exit_code == 7
    assert [(call.request.run, call.request.project) for call in outcome.calls] == [("@last", ""), (RUN.id, "p1")]


@pytest.mark.parametrize("name", ["TERM", "sigterm", "SIGTERM"])
def test_a_signal_is_named_as_people_do(name: str) -> None:
    outcome = banksman("run", "exec", "-d", "--stop-signal", name, "--", "true", script=[("CreateRun", RUN)])
    assert outcome.calls[0].request.spec.stop_signal == "SIGTERM"
    assert banksman("run", "cancel", "@last", "--signal", "NOPE").exit_code == 2


def test_a_new_principal_comes_with_the_way_to_its_token() -> None:
    made = access_pb2.Principal(id="p9", name="ci")
    outcome = banksman("principal", "create", "ci", script=[("CreatePrincipal", made)])
    assert outcome.stdout == "p9\n"
    assert "banksman token create --principal ci" in outcome.stderr
    assert "may use no project" in outcome.stderr
    granted = banksman("principal", "create", "ci", "--grant-project", "web", script=[("CreatePrincipal", made)])
    assert "warning" not in granted.stderr


def test_since_when_a_runner_is_away_is_told() -> None:
    seen = timestamp_pb2.Timestamp(seconds=1767355200)
    here = runner_pb2.Runner(name="here", connected=True, last_seen_at=seen)
    away = runner_pb2.Runner(name="away", disconnected_since=seen)
    answer = runner_pb2.ListRunnersResponse(runners=[here, away])
    titles, first, second = banksman("runner", "list", script=[("ListRunners", answer)]).stdout.splitlines()
    at = titles.split("\t").index("DISCONNECTED SINCE")
    assert (first.split("\t")[at], second.split("\t")[at]) == ("", "2026-01-02T12:00:00.000Z")


def test_a_cancel_that_is_refused_does_not_keep_the_others_from_theirs() -> None:
    over = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "Run a is already SUCCEEDED.")
    gone = Refusal(grpc.StatusCode.NOT_FOUND, "There is no run 'c'.")
    script = [("CancelRun", over), ("CancelRun", ENDED), ("CancelRun", gone)]
    outcome = banksman("run", "cancel", "a", "b", "c", script=script)
    assert outcome.exit_code == 6
    assert "is CANCELLED" in outcome.stderr
    assert "Run a is already SUCCEEDED" in outcome.stderr
    assert "There is no run 'c'" in outcome.stderr
