"""Every status ends with its exit code and says what to do next."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import access_pb2, run_pb2
from google.rpc import error_details_pb2

from tests.unit.control_plane.cli.console import banksman
from tests.unit.fake_channel import Refusal

CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 2,
    grpc.StatusCode.OUT_OF_RANGE: 2,
    grpc.StatusCode.NOT_FOUND: 3,
    grpc.StatusCode.UNAUTHENTICATED: 4,
    grpc.StatusCode.PERMISSION_DENIED: 4,
    grpc.StatusCode.UNAVAILABLE: 5,
    grpc.StatusCode.DEADLINE_EXCEEDED: 5,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 5,
    grpc.StatusCode.INTERNAL: 5,
    grpc.StatusCode.UNKNOWN: 5,
    grpc.StatusCode.UNIMPLEMENTED: 5,
    grpc.StatusCode.CANCELLED: 5,
    grpc.StatusCode.DATA_LOSS: 5,
    grpc.StatusCode.ALREADY_EXISTS: 6,
    grpc.StatusCode.ABORTED: 6,
    grpc.StatusCode.FAILED_PRECONDITION: 6,
}


def test_every_status_has_an_exit_code() -> None:
    assert set(CODES) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


@pytest.mark.parametrize("status", CODES, ids=lambda status: status.name)
def test_a_status_becomes_its_exit_code(status: grpc.StatusCode) -> None:
    outcome = banksman("project", "delete", "web", script=[("DeleteProject", Refusal(status, "no such luck"))])
    assert outcome.exit_code == CODES[status]
    assert outcome.stderr.startswith("error: ")
    assert "no such luck" in outcome.stderr
    assert outcome.stdout == ""


def test_each_refused_field_has_a_line_of_its_own() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="spec.timeout", description="must be 1 s to 30 d")
    bad.field_violations.add(field="spec.slots", description="must be positive")
    refusal = Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        "2 fields are wrong",
        [error_details_pb2.ErrorInfo(reason="INVALID_FIELDS"), bad],
    )
    outcome = banksman("run", "exec", "--", "true", script=[("CreateRun", refusal)])
    assert outcome.exit_code == 2
    lines = outcome.stderr.splitlines()
    assert lines[0] == "error: 2 fields are wrong (INVALID_FIELDS)"
    assert lines[1:3] == [
        "  spec.timeout (--timeout): must be 1 s to 30 d",
        "  spec.slots (--slots): must be positive",
    ]


@pytest.mark.parametrize(
    ("command", "method", "field", "told"),
    [
        ("run exec -- true", "CreateRun", "spec.steps[0].command.argv[1]", "spec.steps[0].command.argv[1] (CMD)"),
        ("run exec -- true", "CreateRun", "spec.env[3].name", "spec.env[3].name (--env)"),
        ("run exec -- true", "CreateRun", "spec.retry.max_attempts", "spec.retry.max_attempts (--retry)"),
        ("run exec -- true", "CreateRun", "spec.loss.lost_after", "spec.loss.lost_after (--lost-after)"),
        ("run exec -- true", "CreateRun", "options.title", "options.title (--title)"),
        ("run exec -- true", "CreateRun", "options.trigger_metadata", "options.trigger_metadata (--meta)"),
        ("run exec -- true", "CreateRun", "options.links[0].url", "options.links[0].url (--link)"),
        ("run exec -- true", "CreateRun", "options.sensitive_variables[0]", "options.sensitive_variables[0]"),
        (
            "task create build -- true",
            "CreateTask",
            "task.spec.idle_timeout",
            "task.spec.idle_timeout (--idle-timeout)",
        ),
        ("task create build -- true", "CreateTask", "task.tags[0]", "task.tags[0] (--tag)"),
        (
            "task create build -- true",
            "CreateTask",
            "task.notifications[0].webhook_url",
            "task.notifications[0].webhook_url (--notify)",
        ),
        ("task create build -- true", "CreateTask", "task.report.formats[1]", "task.report.formats[1] (--report)"),
        (
            "schedule create x --task build --every 5m --var y=1",
            "CreateSchedule",
            "schedule.variables[y]",
            "schedule.variables[y] (--var)",
        ),
        ("schedule backfill x --from 2d", "BackfillSchedule", "start_at", "start_at (--from)"),
        ("run cancel @last", "CancelRun", "grace", "grace (--grace)"),
        ("run get @last", "GetRun", "spec.timeout", "spec.timeout"),
    ],
)
def test_a_refused_field_is_told_with_the_option_that_sets_it(command: str, method: str, field: str, told: str) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field=field, description="is wrong")
    refusal = Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"{field}: is wrong",
        [error_details_pb2.ErrorInfo(reason="INVALID_FIELDS"), bad],
    )
    outcome = banksman(*command.split(), script=[(method, refusal)])
    assert outcome.stderr == f"error: {told}: is wrong (INVALID_FIELDS)\n"


def test_nothing_is_said_twice() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="name", description="must not be empty")
    bad.field_violations.add(field="value", description="is too short")
    sentence = "name: must not be empty; value: is too short."
    refusal = Refusal(grpc.StatusCode.INVALID_ARGUMENT, sentence, [error_details_pb2.ErrorInfo(reason="F"), bad])
    lines = banksman("secret", "set", "A", script=[("SetSecret", refusal)], given=b"12345678").stderr.splitlines()
    assert lines == ["error: 2 values were refused (F)", "  name: must not be empty", "  value: is too short"]
    unmet = error_details_pb2.PreconditionFailure()
    unmet.violations.add(type="RUN_FINISHED", description="Run 1 is already SUCCEEDED.")
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "Run 1 is already SUCCEEDED.", [unmet])
    outcome = banksman("run", "cancel", "@last", script=[("CancelRun", refusal)])
    assert outcome.stderr == "error: Run 1 is already SUCCEEDED (FAILED_PRECONDITION)\n"


def test_preconditions_and_help_are_told() -> None:
    unmet = error_details_pb2.PreconditionFailure()
    unmet.violations.add(type="RUN", subject="run 1", description="is finished")
    helpful = error_details_pb2.Help()
    helpful.links.add(description="banksman run retry @last")
    info = error_details_pb2.ErrorInfo(reason="RUN_FINISHED")
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "the run is over", [info, unmet, helpful])
    outcome = banksman("run", "cancel", "@last", script=[("CancelRun", refusal)])
    assert outcome.exit_code == 6
    assert "(RUN_FINISHED)" in outcome.stderr
    assert "run 1: is finished" in outcome.stderr
    assert "next:  banksman run retry @last" in outcome.stderr


def test_what_is_not_there_names_the_list_to_look_at() -> None:
    info = error_details_pb2.ErrorInfo(reason="TASK_NOT_FOUND")
    refusal = Refusal(grpc.StatusCode.NOT_FOUND, "no task x", [info])
    outcome = banksman("task", "get", "x", script=[("GetTask", refusal)])
    assert "next:  banksman task list" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "method", "code", "reason", "told"),
    [
        (("run", "report", "1"), "GetReport", "NOT_FOUND", "REPORT_NOT_FOUND", "banksman run report RUN --list"),
        (("run", "retry", "1"), "RetryRun", "FAILED_PRECONDITION", "RUN_ACTIVE", "banksman run wait RUN"),
        (
            ("task", "delete-runs", "t", "--yes"),
            "DeleteTaskRuns",
            "FAILED_PRECONDITION",
            "TASK_HAS_ACTIVE_RUNS",
            "banksman run cancel --filter 'task = NAME'",
        ),
    ],
)
def test_a_refusal_without_a_hint_names_what_to_do(
    arguments: tuple[str, ...], method: str, code: str, reason: str, told: str
) -> None:
    refusal = Refusal(grpc.StatusCode[code], "refused", [error_details_pb2.ErrorInfo(reason=reason)])
    outcome = banksman(*arguments, script=[(method, refusal)])
    assert f"next:  {told}" in outcome.stderr


def test_a_run_that_is_not_there_is_told_how_runs_are_named() -> None:
    info = error_details_pb2.ErrorInfo(reason="RUN_NOT_FOUND")
    refusal = Refusal(grpc.StatusCode.NOT_FOUND, "no run x", [info])
    outcome = banksman("run", "get", "x", script=[("GetRun", refusal)])
    assert "the last 8 digits" in outcome.stderr
    assert "@last" in outcome.stderr


def test_debug_shows_the_status_and_never_the_token() -> None:
    info = error_details_pb2.ErrorInfo(reason="TASK_NOT_FOUND", domain="banksman")
    refusal = Refusal(grpc.StatusCode.NOT_FOUND, "no task x", [info])
    outcome = banksman("task", "get", "x", "--debug", script=[("GetTask", refusal)])
    assert "status: NOT_FOUND" in outcome.stderr
    assert 'domain: "banksman"' in outcome.stderr
    assert "bnk_user" not in outcome.stderr


def test_a_server_cannot_steer_the_terminal_by_its_message() -> None:
    refusal = Refusal(grpc.StatusCode.NOT_FOUND, "no \x1b]0;owned\x07task\nnext: rm -rf")
    outcome = banksman("task", "get", "x", script=[("GetTask", refusal)])
    assert "\x1b" not in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_read_is_tried_again_until_the_server_answers() -> None:
    away = Refusal(grpc.StatusCode.UNAVAILABLE, "connection refused")
    answer = access_pb2.Principal(name="me")
    outcome = banksman("whoami", script=[("WhoAmI", away), ("WhoAmI", away), ("WhoAmI", answer)])
    assert outcome.exit_code == 0
    assert banksman("whoami", script=[("WhoAmI", away)] * 4).exit_code == 5


def test_a_create_is_repeated_with_the_same_request_id() -> None:
    away = Refusal(grpc.StatusCode.UNAVAILABLE)
    run = run_pb2.Run(id="r1", is_active=True)
    outcome = banksman("run", "exec", "-d", "--", "true", script=[("CreateRun", away), ("CreateRun", run)])
    assert outcome.calls[0].request.request_id == outcome.calls[1].request.request_id != ""


def test_what_may_not_be_repeated_is_sent_once() -> None:
    away = Refusal(grpc.StatusCode.UNAVAILABLE)
    assert banksman("secret", "set", "A", script=[("SetSecret", away)], given=b"12345678").exit_code == 5


@pytest.mark.parametrize(
    "line",
    [
        "no-such-noun",
        "run exec",
        "run exec --timeout 5parsecs -- true",
        "run exec --script s.sh -- true",
        "run exec -e UNSET_HERE -- true",
        "run exec -d --propagate-exit-code -- true",
        "run logs @last --tail 3 --from-offset 4",
        "run list --state melted",
        "run list --since yesterday-ish",
        "schedule create n --task t",
        "schedule create n --task t --cron @daily --every 5m",
        "context set nowhere",
        "whoami --url ftp://x",
        "whoami --url http://user:pass@127.0.0.1:1",
        "-o xml whoami",
        "task update build --lost-after sometimes",
    ],
)
def test_wrong_usage_ends_with_2_and_sends_nothing(line: str) -> None:
    script = [("GetTask", run_task())] if line.startswith("task update") else []
    outcome = banksman(*line.split(), script=script)
    assert outcome.exit_code == 2
    assert outcome.stderr


def run_task():  # type: ignore[no-untyped-def]
    from banksman.v1 import task_pb2

    return task_pb2.Task(name="build")
