"""What verbs do beside their one request: etags, pages, several calls, and what they print."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from banksman.v1 import (
    access_pb2,
    project_pb2,
    run_pb2,
    runner_pb2,
    schedule_pb2,
    spec_pb2,
    task_pb2,
)
from google.protobuf import timestamp_pb2

from tests.unit.control_plane.cli.console import TOKEN, banksman
from tests.unit.control_plane.cli.things import ENDED, PROJECT, RUN, SCHEDULE, TASK, seconds
from tests.unit.fake_channel import Refusal


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
