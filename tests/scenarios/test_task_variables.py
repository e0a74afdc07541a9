"""Variables of tasks: they land in one argument and nowhere else, and sensitive ones are seen by the child alone."""

from __future__ import annotations

import json
import os
import pathlib
import sqlite3
from typing import Any

import grpc
import pytest
from banksman.v1 import run_pb2, schedule_pb2, spec_pb2, task_pb2
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from tests.scenarios.house import House
from tests.scenarios.specs import command, env, script, spec
from tests.waiting import wait_for

SHOW = ["/usr/bin/env", "python3", "-c", "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"]


def text(value: str) -> Value:
    return Value(string_value=value)


def create(house: House, name: str, run_spec: spec_pb2.RunSpec, **fields: Any) -> task_pb2.Task:
    task = task_pb2.Task(name=name, spec=run_spec, **fields)
    return house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task))


def run_task(house: House, name: str, *, sensitive: tuple[str, ...] = (), **variables: Value) -> run_pb2.Run:
    options = run_pb2.RunOptions(variables=variables, sensitive_variables=sensitive)
    return house.doors.tasks.RunTask(task_pb2.RunTaskRequest(task=name, options=options))


def seen(house: House, run: run_pb2.Run) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment that the child had."""
    run = house.wait(run.id)
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    arguments, surroundings = json.loads(house.log(run.id))
    return arguments, surroundings


def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_values_land_in_arguments_and_env_as_they_are(shared: House) -> None:
    steps = spec(
        command([*SHOW, "{{ a }}", "<{{b}}|{{ c }}>", "{x} {{{{ a }} {{ unknown }}"]), env=env({"E": "-{{ a }}-"})
    )
    create(shared, "values", steps, variables=[task_pb2.Variable(name="c", default_value=text("def"))])
    evil = "$(touch /tmp/x); `id` '\" {{ b }} {{{{ \n\t%s ${HOME} é"
    run = run_task(shared, "values", a=text(evil), b=Value(number_value=3))
    arguments, surroundings = seen(shared, run)
    assert arguments == [evil, "<3|def>", "{x} {{ a }} {{ unknown }}"]
    assert surroundings["E"] == f"-{evil}-"
    assert surroundings["BANKSMAN_VAR_A"] == evil
    assert (surroundings["BANKSMAN_VAR_B"], surroundings["BANKSMAN_VAR_C"]) == ("3", "def")
    shown = shared.get(run.id)
    assert {each.name: each.value for each in shown.variables} == {"a": evil, "b": "3", "c": "def"}
    assert list(shown.rendered_commands[0].argv[4:]) == arguments
    assert shown.spec.steps[0].command.argv[4] == "{{ a }}", "the frozen spec is the template"


def test_numbers_and_booleans_become_their_text(shared: House) -> None:
    create(shared, "texts", spec(command([*SHOW, "{{ a }}", "{{ b }}", "{{ c }}"])))
    values = {"a": Value(number_value=1.5), "b": Value(bool_value=True), "c": Value(number_value=-7)}
    assert seen(shared, run_task(shared, "texts", **values))[0] == ["1.5", "true", "-7"]
    for bad in (Value(struct_value=Struct()), Value(list_value=ListValue()), Value(null_value=0), Value()):
        code, details = refused(lambda bad=bad: run_task(shared, "texts", a=bad))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "options.variables[a]" in details


def test_a_sensitive_value_reaches_the_child_and_nothing_else(house: House) -> None:
    house.agent("r1")
    value = "correct horse battery staple"
    fifo = house.fifo("hold")
    program = f'echo "$TOKEN" "$1" "$BANKSMAN_VAR_TOKEN"; read line < {fifo.path}'
    steps = spec(command(["/bin/sh", "-c", program, "sh", "{{ token }}"]), env=env({"TOKEN": "x{{ token }}x"}))
    create(house, "hidden", steps, variables=[task_pb2.Variable(name="token", sensitive=True)])
    run = run_task(house, "hidden", token=text(value))
    house.wait_state(run.id, run_pb2.RUN_STATE_RUNNING)
    assert value.encode() not in contents(house.root), "neither in the database nor in the run directory"
    fifo.send()
    run = house.wait(run.id)
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    assert house.log(run.id) == b"x***x *** ***\n"
    shown = house.get(run.id)
    assert [(each.name, each.value, each.sensitive) for each in shown.variables] == [("token", "", True)]
    assert shown.rendered_commands[0].argv[-1] == "{{ token }}"
    assert value not in str(shown)
    assert value.encode() not in contents(house.root)
    assert sealed_rows(house) == 0, "gone once the run has settled"
    code, details = refused(lambda: house.doors.runs.RetryRun(run_pb2.RetryRunRequest(run=run.id)))
    assert (code, "token" in details) == (grpc.StatusCode.FAILED_PRECONDITION, True)


def contents(root: pathlib.Path) -> bytes:
    """Every file's bytes; fifos are left out."""
    found = b""
    for directory, _, names in os.walk(root):
        for name in names:
            path = pathlib.Path(directory, name)
            if path.is_file() and not path.is_symlink():
                found += path.read_bytes()
    return found


def sealed_rows(house: House) -> int:
    (database,) = house.server_directory.rglob("*.db")
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT count(*) FROM run_secrets").fetchone()[0])


def test_where_a_placeholder_must_not_stand(shared: House) -> None:
    in_script = spec(script("echo {{ a }}"))
    code, details = refused(lambda: create(shared, "bad", in_script))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "task.spec.steps[0].command.script" in details
    assert "$BANKSMAN_VAR_A" in details
    in_shell = spec(command(["/bin/bash", "-ec", "echo {{ a }}"]))
    code, details = refused(lambda: create(shared, "bad", in_shell))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "task.spec.steps[0].command.argv[2]" in details
    create(shared, "allowed", in_shell, allow_shell_substitution=True)
    assert shared.log(shared.wait(run_task(shared, "allowed", a=text("1; echo 2")).id).id) == b"1\n2\n"
    create(shared, "hidden shell", spec(command(["{{ shell }}", "-c", "echo {{ a }}"])))
    code, details = refused(lambda: run_task(shared, "hidden shell", shell=text("sh"), a=text("x")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "argv[2]" in details


def test_a_script_reads_its_variables_from_the_environment(shared: House) -> None:
    create(shared, "reads", spec(script('printf "%s" "$BANKSMAN_VAR_BRANCH" "{{{{ x }}"')))
    assert shared.log(shared.wait(run_task(shared, "reads", branch=text("a; b $(c)")).id).id) == b"a; b $(c){{ x }}"


def test_unknown_required_and_doubled_variables(shared: House) -> None:
    strict = task_pb2.UNKNOWN_VARIABLES_REFUSE
    create(shared, "strict", spec(command(["/bin/echo", "{{ a }}", "{{ b }}"])), unknown_variables=strict)
    code, details = refused(lambda: run_task(shared, "strict", a=text("1")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "spec.steps[0].command.argv[2]" in details
    assert shared.log(shared.wait(run_task(shared, "strict", a=text("1"), b=text("2")).id).id) == b"1 2\n"
    needs = [task_pb2.Variable(name="who", required=True), task_pb2.Variable(name="Token", sensitive=True)]
    create(shared, "needs", spec(command(["/bin/echo", "{{ who }}"])), variables=needs)
    code, details = refused(lambda: run_task(shared, "needs", token=text("long enough")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "options.variables[who]" in details
    assert "options.variables[token]" in details
    code, details = refused(lambda: run_task(shared, "needs", who=text("x"), Token=text("short")))
    assert "at least 8 bytes" in details


def test_a_mistyped_variable_is_refused_and_makes_no_run(shared: House) -> None:
    create(shared, "typed", spec(command(["/bin/echo", "{{ branch }}"])))
    code, details = refused(lambda: run_task(shared, "typed", brnach=text("main")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "options.variables[brnach]: no such variable is declared or used; did you mean 'branch'?" in details
    schedule = schedule_pb2.Schedule(name="typed", task_id="typed", cron="@daily", variables={"brnach": text("main")})
    request = schedule_pb2.CreateScheduleRequest(schedule=schedule)
    assert "schedule.variables[brnach]" in refused(lambda: shared.doors.schedules.CreateSchedule(request))[1]
    assert not shared.doors.runs.ListRuns(run_pb2.ListRunsRequest(task="typed")).runs


def test_an_inline_spec_is_a_template_only_with_variables(shared: House) -> None:
    plain = shared.execute(spec(["/bin/echo", "{{ a }}", "{{{{"]))
    assert shared.log(plain.id) == b"{{ a }} {{{{\n"
    options = run_pb2.RunOptions(variables={"a": text("1")})
    filled = shared.execute(spec(["/bin/echo", "{{ a }}", "{{{{"]), options=options)
    assert shared.log(filled.id) == b"1 {{\n"


def test_sizes_at_the_limit_and_one_more(shared: House) -> None:
    create(shared, "sizes", spec(command(["/bin/sh", "-c", 'printf %s "$1" | wc -c', "sh", "{{ a }}{{ a }}{{ b }}"])))
    half = "x" * 65_536
    fits = {"a": text(half[:-1]), "b": text("x")}
    assert shared.log(shared.wait(run_task(shared, "sizes", **fits).id).id).strip() == b"131071"
    code, details = refused(lambda: run_task(shared, "sizes", a=text(half), b=text("")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "spec.steps[0].command.argv[4]" in details
    code, details = refused(lambda: run_task(shared, "sizes", a=text(half + "x")))
    assert "options.variables[a]" in details
    many = {f"v{number}": text("x") for number in range(65)}
    create(shared, "many", spec(command(["/bin/true", *(f"{{{{ {name} }}}}" for name in many)])))
    code, details = refused(lambda: run_task(shared, "many", **many))
    assert (code, "at most 64 variables" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    del many["v64"]
    shared.wait(run_task(shared, "many", **many).id)
    large = {f"v{number}": text(half) for number in range(17)}
    code, details = refused(lambda: run_task(shared, "many", **large))
    assert "argv and env" in details


def test_a_run_does_otherwise_what_the_task_allows(shared: House) -> None:
    create(shared, "strictly", spec(command([*SHOW])), allowed_overrides=["env", "timeout"])
    overrides = run_pb2.RunOverrides(env=[spec_pb2.EnvVar(name="STAGE", value="{{ s }}")], slots=2, runner="r1")
    overrides.timeout.FromSeconds(60)

    def run(given: run_pb2.RunOverrides) -> run_pb2.Run:
        options = run_pb2.RunOptions(overrides=given, variables={"s": text("live")})
        return shared.doors.tasks.RunTask(task_pb2.RunTaskRequest(task="strictly", options=options))

    code, details = refused(lambda: run(overrides))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "options.overrides.slots" in details
    assert "options.overrides.runner" in details
    overrides.ClearField("slots")
    overrides.ClearField("runner")
    made = run(overrides)
    assert made.spec.timeout.seconds == 60
    assert seen(shared, made)[1]["STAGE"] == "live"


def test_a_schedule_runs_with_the_defaults_and_says_why_it_cannot(shared: House) -> None:
    create(
        shared,
        "by itself",
        spec(command(["/bin/echo", "{{ a }}"])),
        variables=[task_pb2.Variable(name="a", default_value=text("tick"))],
        schedules=[schedule_pb2.Schedule(cron="@yearly")],
    )
    request = schedule_pb2.TriggerScheduleRequest(schedule="by itself")
    run = shared.wait(shared.doors.schedules.TriggerSchedule(request).id)
    assert shared.log(run.id) == b"tick\n"
    needs = task_pb2.Task(name="by itself", variables=[task_pb2.Variable(name="a", required=True)])
    update = task_pb2.UpdateTaskRequest(task=needs)
    update.update_mask.paths.append("variables")
    shared.doors.tasks.UpdateTask(update)
    run = shared.doors.schedules.TriggerSchedule(request)
    assert run.state == run_pb2.RUN_STATE_SKIPPED
    assert "schedule.variables[a]" in run.error_message


def test_the_command_line_brings_variables(shared: House) -> None:
    made = shared.cli(
        *("task", "create", "from cli", "--var", "greeting=hello", "--sensitive-var", "token", "--public"),
        *(
            "--allow-override",
            "env",
            "--",
            "/bin/sh",
            "-c",
            'echo "$1" "$E" "$BANKSMAN_VAR_TOKEN"',
            "sh",
            "{{ greeting }}",
        ),
    )
    assert made.returncode == 0, made.stderr
    ran = shared.cli(
        *("task", "run", "from cli", "--follow", "--var", "greeting=good day", "-e", "E=e", "--sensitive-var", "token"),
        extra={"token": "not to be seen"},
    )
    assert (ran.returncode, ran.stdout) == (0, b"good day e ***\n"), ran.stderr
    shown = shared.cli("run", "get", "@last").stdout.decode()
    assert "greeting='good day' token=***" in shown
    wait_for(lambda: b"settled" in shared.cli("run", "get", "@last").stdout, what="the run has settled", timeout_s=20)
    again = shared.cli("run", "retry", "@last", "--follow", "--var", "token=another secret", "--var", "greeting=bye")
    assert (again.returncode, again.stdout) == (0, b"bye e ***\n"), again.stderr
