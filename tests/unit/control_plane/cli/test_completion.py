"""Values are completed from the control plane, and a control plane that is away is not mentioned."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from banksman.v1 import project_pb2, run_pb2, runner_pb2, schedule_pb2, secret_pb2, task_pb2
from click.shell_completion import ShellComplete

from control_plane.cli.invocation import Invocation
from control_plane.cli.main import cli
from tests.unit.control_plane.cli.console import ENVIRON, FakeClock, banksman
from tests.unit.fake_channel import Answer, FakeControlPlane, Refusal

RUN = run_pb2.Run(id="0199aaaa-bbbb-7ccc-8ddd-eeee12345678", state=run_pb2.RUN_STATE_RUNNING, task_name="build")
RUNS = ("ListRuns", run_pb2.ListRunsResponse(runs=[RUN]))
TASKS = ("ListTasks", task_pb2.ListTasksResponse(tasks=[task_pb2.Task(name="build"), task_pb2.Task(name="test")]))
SCHEDULES = (
    "ListSchedules",
    schedule_pb2.ListSchedulesResponse(schedules=[schedule_pb2.Schedule(name="nightly")]),
)
RUNNERS = ("ListRunners", runner_pb2.ListRunnersResponse(runners=[runner_pb2.Runner(name="host")]))
PROJECTS = ("ListProjects", project_pb2.ListProjectsResponse(projects=[project_pb2.Project(name="web")]))
SECRETS = ("ListSecrets", secret_pb2.ListSecretsResponse(secrets=[secret_pb2.Secret(name="KEY")]))


def complete(
    words: list[str], incomplete: str, script: list[tuple[str, Answer]], environ: dict[str, str] = ENVIRON
) -> tuple[list[str], FakeControlPlane]:
    plane = FakeControlPlane(script)
    inv = Invocation(environ=environ, clock=FakeClock(), connect=lambda target: plane.channel)  # type: ignore[return-value,arg-type]
    found = ShellComplete(cli, {"obj": inv}, "banksman", "_BANKSMAN_COMPLETE").get_completions(words, incomplete)
    plane.finish()
    return [item.value for item in found], plane


@pytest.mark.parametrize(
    ("words", "incomplete", "script", "found"),
    [
        (["run", "logs"], "", RUNS, ["@last", "12345678"]),
        (["run", "cancel", "@last"], "12", RUNS, ["12345678"]),
        (["run", "list", "--task"], "b", TASKS, ["build"]),
        (["task", "run"], "", TASKS, ["build", "test"]),
        (["schedule", "pause"], "n", SCHEDULES, ["nightly"]),
        (["runner", "drain"], "", RUNNERS, ["host"]),
        (["run", "exec", "--runner"], "h", RUNNERS, ["host"]),
        (["--project"], "w", PROJECTS, ["web"]),
        (["task", "list", "--project"], "", PROJECTS, ["web"]),
        (["secret", "rm"], "", SECRETS, ["KEY"]),
    ],
)
def test_values(words: list[str], incomplete: str, script: tuple[str, Answer], found: list[str]) -> None:
    values, plane = complete(words, incomplete, [script])
    assert values == found
    timeout_s = plane.calls[0].timeout_s
    assert timeout_s is not None
    assert timeout_s <= 1.0


def test_the_project_of_the_line_is_asked() -> None:
    _, plane = complete(["task", "run", "--project", "web"], "", [TASKS])
    assert plane.calls[0].request.project == "web"


def test_commands_and_options() -> None:
    assert complete(["run"], "l", [])[0] == ["list", "logs"]
    assert "--follow" in complete(["run", "logs"], "--f", [])[0]
    assert complete(["-o"], "j", [])[0] == ["json", "jsonl"]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED])
def test_a_failure_is_silent(code: grpc.StatusCode, capsys: pytest.CaptureFixture[str]) -> None:
    # The next pause would end behind the second that completion has.
    tries = 3 if code is grpc.StatusCode.UNAVAILABLE else 1
    values, _ = complete(["task", "run"], "", [("ListTasks", Refusal(code))] * tries)
    assert values == []
    values, _ = complete(["task", "run"], "", [], environ={"HOME": "/nonexistent"})
    assert values == []
    assert capsys.readouterr() == ("", "")


def test_contexts_are_completed_from_the_file(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    banksman("context", "set", "work", "--url", "http://127.0.0.1:1", environ=environ)
    assert complete(["context", "use"], "w", [], environ)[0] == ["work"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    outcome = banksman("completion", shell, environ={"HOME": "/nonexistent"})
    assert outcome.exit_code == 0
    assert f"_BANKSMAN_COMPLETE={shell}_complete" in outcome.stdout
