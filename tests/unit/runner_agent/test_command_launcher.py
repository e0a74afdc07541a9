"""An assignment becomes steps: argv as given, a script as a file, a clean environment, secrets as masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runner_agent.domain.assignment import Assignment, Command, EnvVar, Step, StepKind
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.launchers import command
from runner_agent.launchers.command import SecretMissing, Surroundings, Unlaunchable
from runner_agent.launchers.environment import base_environment
from runner_agent.shim import messages as shim

HERE = Surroundings(
    work=Path("/w/work"),
    scripts=Path("/w/scripts"),
    runner_name="r-1",
    cookie="c",
    base_env={"PATH": "/bin", "A": "base"},
)
KEY = AttemptKey(run_id=RunId("run"), lease_epoch=3)


def assigned(*steps: Step, **changes: object) -> Assignment:
    return replace(Assignment(key=KEY, steps=steps), **changes)  # type: ignore[arg-type]


def start(assignment: Assignment) -> shim.AttemptStart:
    return command.attempt_start(assignment, HERE, loss_deadline_boottime_ns=5, start_timeout_s=7.0)


def step(*argv: str, **changes: object) -> Step:
    return replace(Step(command=Command(argv=argv)), **changes)  # type: ignore[arg-type]


def test_argv_reaches_exec_as_it_is() -> None:
    odd = ("printf", "%s", "a b", "$HOME; rm -rf /", "", "ü\udcff")
    (made,) = start(assigned(step(*odd))).steps
    assert (made.argv, made.cwd, made.stdin) == (odd, "/w/work", None)
    assert made.success_exit_codes == {0}


def test_a_script_is_a_file_for_its_interpreter() -> None:
    plain = Step(command=Command(script="echo 1"))
    python = Step(command=Command(script="print(1)", interpreter=("python3", "-u")))
    given = assigned(plain, step("true"), python)
    assert command.scripts(given) == {"step-0": "echo 1", "step-2": "print(1)"}
    made = start(given).steps
    assert made[0].argv == ("/bin/sh", "/w/scripts/step-0")
    assert made[2].argv == ("python3", "-u", "/w/scripts/step-2")


@pytest.mark.parametrize(
    ("given", "cwd"), [("", "/w/work"), ("sub/dir", "/w/work/sub/dir"), ("/tmp", "/tmp"), ("..", "/w/work/..")]
)
def test_the_working_directory_is_absolute_or_in_the_workspace(given: str, cwd: str) -> None:
    made = start(assigned(Step(command=Command(argv=("true",), working_directory=given))))
    assert made.steps[0].cwd == cwd


def test_the_environment_is_layered_and_ours_comes_last() -> None:
    given = assigned(
        step("env", env=(EnvVar(name="B", value="step"),)),
        env=(EnvVar(name="A", value="spec"), EnvVar(name="B", value="spec"), EnvVar(name="BANKSMAN_RUN_ID", value="x")),
        server_env={"A": "server", "C": "server"},
        project_name="p",
        task_name="t",
        attempt_number=2,
    )
    env = start(given).steps[0].env
    assert {name: env[name] for name in "ABC"} == {"A": "spec", "B": "step", "C": "server"}
    assert env["PATH"] == "/bin"
    assert {name: value for name, value in env.items() if name.startswith("BANKSMAN_")} == {
        "BANKSMAN_RUN_ID": "run",
        "BANKSMAN_ATTEMPT": "2",
        "BANKSMAN_LEASE_EPOCH": "3",
        "BANKSMAN_TASK": "t",
        "BANKSMAN_PROJECT": "p",
        "BANKSMAN_RUNNER": "r-1",
        "BANKSMAN_WORKSPACE": "/w/work",
        "BANKSMAN_RESULT": "/w/result.json",
    }


def test_secrets_reach_the_environment_and_the_masks_and_no_text() -> None:
    given = assigned(
        step("env"), env=(EnvVar(name="TOKEN", secret_ref="api"),), secrets={"api": b"s3cr3t-\xff", "empty": b""}
    )
    made = start(given)
    assert made.steps[0].env["TOKEN"] == "s3cr3t-\udcff"
    assert made.masks == (b"s3cr3t-\xff",)
    for text in (repr(given), repr(made)):
        assert "s3cr3t" not in text


def test_a_secret_without_a_value_cannot_start() -> None:
    given = assigned(step("env"), env=(EnvVar(name="TOKEN", secret_ref="gone"),))
    with pytest.raises(SecretMissing, match="gone"):
        command.check(given)


@pytest.mark.parametrize(
    "given",
    [
        assigned(),
        assigned(Step(command=Command())),
        assigned(Step(command=Command(argv=("true",), script="both"))),
        assigned(step("true", kind=StepKind.UNSPECIFIED)),
        assigned(step("true"), stop_signal="SIGNOTHING"),
    ],
)
def test_what_no_runner_could_start_is_refused(given: Assignment) -> None:
    with pytest.raises(Unlaunchable):
        command.check(given)


def test_limits_and_deadlines_are_handed_on() -> None:
    given = assigned(
        step("true", timeout_s=4.0, always=True),
        timeout_s=1.0,
        idle_timeout_s=2.0,
        grace_s=3.0,
        stop_signal="SIGINT",
        log_limit_bytes=99,
        merge_output=True,
    )
    made = start(given)
    assert (made.run_timeout_s, made.idle_timeout_s, made.start_timeout_s, made.grace_s) == (1.0, 2.0, 7.0, 3.0)
    assert (made.stop_signal, made.log_limit_bytes, made.merge_output, made.loss_deadline_boottime_ns) == (
        2,
        99,
        True,
        5,
    )
    assert (made.steps[0].timeout_s, made.steps[0].always) == (4.0, True)


def test_the_base_environment_is_an_allow_list() -> None:
    given = {
        "PATH": "/p",
        "HOME": "/h",
        "LANG": "x",
        "LC_ALL": "y",
        "TZ": "z",
        "USER": "u",
        "LOGNAME": "l",
        "SHELL": "s",
        "TMPDIR": "t",
        "LD_PRELOAD": "no",
        "SSH_AUTH_SOCK": "no",
        "BANKSMAN_RUNNER_JOIN_TOKEN_FILE": "no",
        "AWS_SECRET_ACCESS_KEY": "no",
    }
    assert base_environment(given) == {name: value for name, value in given.items() if value != "no"}


def test_what_is_missing_comes_from_the_user_database() -> None:
    assert {"PATH", "HOME", "LANG"} <= base_environment({}).keys()
