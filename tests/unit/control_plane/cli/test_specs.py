"""From options and files to the spec that is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from banksman.v1 import run_pb2, spec_pb2, task_pb2
from google.protobuf import duration_pb2

from control_plane.cli.errors import CliError
from control_plane.cli.spec_file import read_task_file
from tests.unit.control_plane.cli.console import ENVIRON, banksman

STORED = task_pb2.Task(id="t1", name="build", etag="e1", active=True)


def created(*args: str, given: bytes | None = None, environ: dict[str, str] = ENVIRON) -> spec_pb2.RunSpec:
    """The spec that `run exec` sends."""
    answer = run_pb2.Run(id="r", is_active=True)
    outcome = banksman("run", "exec", "-d", *args, script=[("CreateRun", answer)], given=given, environ=environ)
    assert outcome.exit_code == 0, outcome.stderr
    spec: spec_pb2.RunSpec = outcome.calls[0].request.spec
    return spec


def test_the_command_is_sent_as_it_was_given() -> None:
    argv = ["sh", "-c", "echo '$HOME' \"a  b\" ; exit", "--label", "", "ü"]
    assert list(created("--", *argv).steps[0].command.argv) == argv
    assert list(created(*argv).steps[0].command.argv) == argv, "options end at the first word of the command"


def test_a_run_without_a_task_is_called_by_its_command() -> None:
    answer = run_pb2.Run(id="r", is_active=True)

    def title(*args: str) -> str:
        outcome = banksman("run", "exec", "-d", *args, script=[("CreateRun", answer)])
        return str(outcome.calls[0].request.options.title)

    assert title("--", "echo", "a b\n") == "echo 'a b '"
    assert title("--title", "mine", "--", "true") == "mine"
    assert len(title("--", "x" * 100)) == 60


def test_what_is_not_said_is_left_to_the_control_plane() -> None:
    spec = created("--", "true")
    assert spec.steps[0].kind == spec_pb2.STEP_KIND_MAIN
    del spec.steps[:]
    assert spec == spec_pb2.RunSpec()


def test_a_script_comes_from_a_file_or_standard_input(tmp_path: Path) -> None:
    script = tmp_path / "deploy.py"
    script.write_text("print('ü')\n", encoding="utf-8")
    command = created("--script", str(script), "--interpreter", "python3 -u").steps[0].command
    assert (command.script, list(command.interpreter)) == ("print('ü')\n", ["python3", "-u"])
    command = created("--script", "-", given=b"echo hi\n").steps[0].command
    assert (command.script, command.stdin) == ("echo hi\n", b"")


@pytest.mark.parametrize(
    ("content", "says"), [(b"\xff\xfe", "UTF-8"), (b"#" * ((1 << 20) + 1), "1 MiB"), (None, "cannot read")]
)
def test_a_bad_script_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    script = tmp_path / "s"
    if content is not None:
        script.write_bytes(content)
    outcome = banksman("run", "exec", "--script", str(script))
    assert outcome.exit_code == 2
    assert says in outcome.stderr


def test_an_environment_variable_can_be_copied() -> None:
    spec = created("-e", "MINE", "-e", "EMPTY=", "--", "true", environ=ENVIRON | {"MINE": "a=b"})
    assert [(variable.name, variable.value) for variable in spec.env] == [("MINE", "a=b"), ("EMPTY", "")]


def test_loss_policies() -> None:
    assert created("--lost-after", "never", "--", "true").loss.never
    assert created("--lost-after", "1h", "--", "true").loss.lost_after == duration_pb2.Duration(seconds=3600)


FILE = """
description: nightly build
tags: [a, b]
spec:
  command: [make, all]
  working_directory: src
  timeout: 1h30m
  grace: 5
  env:
    DEBUG: true
    LEVEL: 3
    KEY: {secret: DEPLOY_KEY}
  selectors:
    os: linux
    size: [big, huge]
  retry: {max_attempts: 3, backoff: 10s}
  loss: {on_lost: retry, lost_after: 10m}
"""


def test_a_task_file_in_its_short_form(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(FILE)
    task, fields = read_task_file(str(path))
    assert fields == {"description", "tags", "spec"}
    spec = task.spec
    assert list(spec.steps[0].command.argv) == ["make", "all"]
    assert spec.steps[0].command.working_directory == "src"
    assert spec.steps[0].kind == spec_pb2.STEP_KIND_MAIN
    assert (spec.timeout.seconds, spec.grace.seconds, spec.retry.backoff.seconds) == (5400, 5, 10)
    assert [(variable.name, variable.value or variable.secret_ref) for variable in spec.env] == [
        ("DEBUG", "true"),
        ("LEVEL", "3"),
        ("KEY", "DEPLOY_KEY"),
    ]
    assert [(selector.key, list(selector.values)) for selector in spec.selectors] == [
        ("os", ["linux"]),
        ("size", ["big", "huge"]),
    ]
    assert spec.loss.on_lost == spec_pb2.ON_LOST_RETRY


def test_a_bare_spec_is_a_task_file_too(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("steps:\n- command: {argv: [a]}\n- {kind: main, name: second, command: {script: 'echo b'}}\n")
    task, _ = read_task_file(str(path))
    assert [step.command.script or list(step.command.argv) for step in task.spec.steps] == [["a"], "echo b"]
    assert {step.kind for step in task.spec.steps} == {spec_pb2.STEP_KIND_MAIN}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1, 2]", "mapping"),
        ("a: [", "cannot read"),
        ("spec: {timeout: soon}", "duration"),
        ("spec: {no_such_field: 1}", "no_such_field"),
        ("description: d\nno_such: 1", "no_such"),
        ("spec: {steps: [{}], command: [a]}", "not both"),
        ("spec: 7", "mapping"),
        ("spec: {slots: many}", "slots"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(CliError) as caught:
        read_task_file(str(path))
    assert says in caught.value.render()


def test_what_get_prints_can_be_edited_and_given_back(tmp_path: Path) -> None:
    stored = task_pb2.Task(id="t1", name="build", etag="e1", active=True, description="d", labels={"a": "b"})
    stored.spec.steps.add(kind=spec_pb2.STEP_KIND_MAIN, command=spec_pb2.Command(script="a\nb\n", stdin=b"\xff\x00"))
    stored.spec.timeout.seconds = 90
    stored.spec.loss.never = True
    stored.spec.env.add(name="K", secret_ref="S")
    text = banksman("task", "get", "build", "-o", "yaml", script=[("GetTask", stored)]).stdout
    path = tmp_path / "build.yaml"
    path.write_text(text.replace("timeout: 90s", "timeout: 2m"))
    outcome = banksman("task", "update", "build", "-f", str(path), script=[("GetTask", stored), ("UpdateTask", stored)])
    sent = outcome.calls[1].request
    expected = task_pb2.Task()
    expected.CopyFrom(stored)
    expected.spec.timeout.seconds = 120
    assert sent.task == expected
    assert list(sent.update_mask.paths) == ["active", "description", "labels", "name", "spec"]


def test_an_old_etag_in_the_file_is_what_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "build.yaml"
    path.write_text("etag: e0\ndescription: new\n")
    outcome = banksman("task", "update", "build", "-f", str(path), script=[("GetTask", STORED), ("UpdateTask", STORED)])
    assert outcome.calls[1].request.task.etag == "e0"


def test_options_change_only_what_they_name() -> None:
    stored = task_pb2.Task(id="t1", name="build", active=True)
    stored.spec.steps.add(kind=spec_pb2.STEP_KIND_MAIN, command=spec_pb2.Command(argv=["a"], stdin=b"keep"))
    stored.spec.env.add(name="A", value="1")
    stored.spec.env.add(name="B", value="2")
    outcome = banksman(
        *["task", "update", "build", "-e", "B=3", "--retry", "1", "--cwd", "/x"],
        script=[("GetTask", stored), ("UpdateTask", stored)],
        given=b"not for the task",
    )
    spec = outcome.calls[1].request.task.spec
    assert [(variable.name, variable.value) for variable in spec.env] == [("A", "1"), ("B", "3")]
    assert spec.retry.max_attempts == 2
    assert spec.steps[0].command == spec_pb2.Command(argv=["a"], stdin=b"keep", working_directory="/x")
    assert list(outcome.calls[1].request.update_mask.paths) == ["spec"]


def test_a_task_from_a_file_takes_the_name_of_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("name: other\netag: e\nspec: {command: [a]}\n")
    outcome = banksman("task", "create", "mine", "-f", str(path), script=[("CreateTask", STORED)])
    sent = outcome.calls[0].request.task
    assert (sent.name, sent.etag, sent.active) == ("mine", "", True)


def test_a_task_of_nothing_is_refused() -> None:
    assert banksman("task", "create", "empty").exit_code == 2


@pytest.mark.parametrize(
    ("data", "stored"),
    [
        (b"value-1234\n", b"value-1234"),
        (b"value-1234\r\n", b"value-1234"),
        (b"value\n\n", b"value\n"),
        (b"v\xff", b"v\xff"),
    ],
)
def test_a_secret_loses_only_its_last_newline(data: bytes, stored: bytes) -> None:
    from banksman.v1 import secret_pb2

    answer = secret_pb2.Secret(name="S", version=1)
    outcome = banksman("secret", "set", "S", script=[("SetSecret", answer)], given=data)
    assert outcome.calls[0].request.value == stored
    assert outcome.stdout == ""


def test_a_secret_from_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    from banksman.v1 import secret_pb2

    path = tmp_path / "key"
    path.write_bytes(b"line\n\n")
    answer = secret_pb2.Secret(name="S", version=1)
    outcome = banksman("secret", "set", "S", "--from-file", str(path), script=[("SetSecret", answer)])
    assert outcome.calls[0].request.value == b"line\n\n"
    assert banksman("secret", "set", "S", given=b"").exit_code == 2
    assert banksman("secret", "set", "S", given=b"x" * 70_000).exit_code == 2
