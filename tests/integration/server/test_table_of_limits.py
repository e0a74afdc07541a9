"""Each limit of the contract over the wire: at it a thing is stored, one more is refused by name and leaves nothing."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from banksman.v1 import project_pb2, run_pb2, schedule_pb2, secret_pb2, spec_pb2, task_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value

from tests.fakes.server import Doors, Server, spec
from tests.integration.server.test_bad_tasks import offending

MIB, KIB, DAY_S = 1 << 20, 1 << 10, 86_400
# The kernel's longest argument, without its NUL.
ARGUMENT = 131_071


def run(*argv: str, options: dict[str, Any] | None = None, **words: Any) -> run_pb2.CreateRunRequest:
    return run_pb2.CreateRunRequest(
        spec=spec(*(argv or ("true",)), **words), options=run_pb2.RunOptions(**(options or {}))
    )


def step(**words: Any) -> run_pb2.CreateRunRequest:
    made = run()
    made.spec.steps[0].command.CopyFrom(spec_pb2.Command(**words))
    return made


def task(**words: Any) -> task_pb2.CreateTaskRequest:
    return task_pb2.CreateTaskRequest(task=task_pb2.Task(**{"name": "t", "spec": spec("true"), **words}))


def argv_and_env(size: int) -> task_pb2.CreateTaskRequest:
    """So many bytes as the kernel counts them, once the variable is replaced: each text with its NUL.

    As it is written a spec cannot be so large: what it has beside argv and env counts, too, against its own limit.
    """
    value = "x" * 64 * KIB
    argv = ["true", *["{{ v }}"] * 10]
    rendered = [each.replace("{{ v }}", value) for each in argv]
    left = size - sum(len(each) + 1 for each in rendered) - len(f"BANKSMAN_VAR_v={value}") - 1
    while left:
        part = min(left, 100_000)
        argv.append("y" * (part - 1))
        left -= part
    variables = [task_pb2.Variable(name="v", default_value=Value(string_value=value))]
    return task(spec=spec(*argv), variables=variables)


def envs(count: int) -> run_pb2.CreateRunRequest:
    return run(env=[spec_pb2.EnvVar(name=f"V{number}", value="x") for number in range(count)])


def pairs(count: int) -> dict[str, str]:
    return {f"k{number}": "v" for number in range(count)}


def metadata(size: int) -> run_pb2.CreateRunRequest:
    return run(options={"trigger_metadata": {"k": "x" * (size - 1)}})


def retry(attempts: int) -> run_pb2.CreateRunRequest:
    return run(retry=spec_pb2.RetryPolicy(max_attempts=attempts))


def variables(count: int) -> task_pb2.CreateTaskRequest:
    return task(variables=[task_pb2.Variable(name=f"v{number}") for number in range(count)])


def variable(size: int) -> task_pb2.CreateTaskRequest:
    return task(variables=[task_pb2.Variable(name="v", default_value=Value(string_value="x" * size))])


def seconds(at: float) -> Duration:
    made = Duration()
    made.FromMilliseconds(round(at * 1000))
    return made


LIMITS: dict[str, tuple[Any, Any, str]] = {
    "argv element": (run("true", "x" * ARGUMENT), run("true", "x" * (ARGUMENT + 1)), "spec.steps[0].command.argv[1]"),
    "argv and env": (argv_and_env(MIB), argv_and_env(MIB + 1), "task.spec.steps[0].command"),
    "script": (step(script="x" * MIB), step(script="x" * (MIB + 1)), "spec.steps[0].command.script"),
    "stdin": (
        step(argv=["cat"], stdin=b"x" * MIB),
        step(argv=["cat"], stdin=b"x" * (MIB + 1)),
        "spec.steps[0].command.stdin",
    ),
    "env": (envs(256), envs(257), "spec.env"),
    "highest priority": (run(priority=100), run(priority=101), "spec.priority"),
    "lowest priority": (run(priority=-100), run(priority=-101), "spec.priority"),
    "attempts": (retry(100), retry(101), "spec.retry.max_attempts"),
    "grace": (run(grace=seconds(3600)), run(grace=seconds(3600.001)), "spec.grace"),
    "longest timeout": (
        run(timeout=seconds(30 * DAY_S)),
        run(timeout=seconds(30 * DAY_S + 0.001)),
        "spec.timeout",
    ),
    "shortest timeout": (run(timeout=seconds(1)), run(timeout=seconds(0.999)), "spec.timeout"),
    "queue timeout": (
        run(queue_timeout=seconds(30 * DAY_S)),
        run(queue_timeout=seconds(30 * DAY_S + 0.001)),
        "spec.queue_timeout",
    ),
    "labels of a run": (
        run(options={"labels": pairs(32)}),
        run(options={"labels": pairs(33)}),
        "options.labels",
    ),
    "trigger metadata": (metadata(8 * KIB), metadata(8 * KIB + 1), "options.trigger_metadata"),
    "tags": (task(tags=[f"t{number}" for number in range(32)]), task(tags=[str(n) for n in range(33)]), "task.tags"),
    "labels of a task": (task(labels=pairs(32)), task(labels=pairs(33)), "task.labels"),
    "variables": (variables(64), variables(65), "task.variables"),
    "variable": (variable(64 * KIB), variable(64 * KIB + 1), "task.variables[0].default_value"),
    "name": (task(name="n" * 255), task(name="n" * 256), "task.name"),
    "name in characters": (task(name="é" * 255), task(name="é" * 256), "task.name"),
    "description": (task(description="d" * 64 * KIB), task(description="d" * (64 * KIB + 1)), "task.description"),
    "request id": (
        run_pb2.CreateRunRequest(spec=spec("true"), request_id="r" * 128),
        run_pb2.CreateRunRequest(spec=spec("true"), request_id="r" * 129),
        "request_id",
    ),
    "shortest secret": (
        secret_pb2.SetSecretRequest(name="S", value=b"x" * 8),
        secret_pb2.SetSecretRequest(name="S", value=b"x" * 7),
        "value",
    ),
    "largest secret": (
        secret_pb2.SetSecretRequest(name="S", value=b"x" * 64 * KIB),
        secret_pb2.SetSecretRequest(name="S", value=b"x" * (64 * KIB + 1)),
        "value",
    ),
    "schedules of a task": (
        task(schedules=[schedule_pb2.Schedule(name=f"s{n}", cron="@yearly") for n in range(32)]),
        task(schedules=[schedule_pb2.Schedule(name=f"s{n}", cron="@yearly") for n in range(33)]),
        "task.schedules",
    ),
}


def send(doors: Doors, request: Any) -> Any:
    calls = {
        "CreateRunRequest": doors.runs.CreateRun,
        "CreateTaskRequest": doors.tasks.CreateTask,
        "SetSecretRequest": doors.secrets.SetSecret,
    }
    return calls[type(request).__name__](request)


async def stored(doors: Doors, project: str) -> int:
    """How many things of these kinds the project has."""
    return (
        len((await doors.runs.ListRuns(run_pb2.ListRunsRequest(project=project))).runs)
        + len((await doors.tasks.ListTasks(task_pb2.ListTasksRequest(project=project))).tasks)
        + len((await doors.secrets.ListSecrets(secret_pb2.ListSecretsRequest(project=project))).secrets)
    )


async def judged(doors: Doors, project: str, right: Any, wrong: Any) -> tuple[list[str], int, int]:
    """The fields that the larger one is refused for, what is there then, and what is there after the right one."""
    await doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project_pb2.Project(name=project)))
    right.project = wrong.project = project
    fields = await offending(send(doors, wrong))
    before = await stored(doors, project)
    await send(doors, right)
    return fields, before, await stored(doors, project)


async def test_at_the_limit_and_one_more(server: Server, doors: Doors) -> None:
    """All on one server, each in a project of its own."""
    found = {name: await judged(doors, name, right, wrong) for name, (right, wrong, _) in LIMITS.items()}
    assert found == {name: ([field], 0, 1) for name, (_, _, field) in LIMITS.items()}


async def test_a_task_at_all_of_its_limits_fits_a_message(server: Server, doors: Doors) -> None:
    """The values of variables count as environment, so that all of them have not more than a MiB together."""
    value = Value(string_value="x" * (64 * KIB - 64))
    request = task(variables=[task_pb2.Variable(name=f"v{n}", default_value=value) for n in range(16)])
    command = spec_pb2.Command(script="x" * MIB, stdin=b"x" * MIB)
    request.task.spec.steps[0].command.CopyFrom(command)
    request.task.description = "d" * 64 * KIB
    made = await doors.tasks.CreateTask(request)
    found = await doors.tasks.GetTask(task_pb2.GetTaskRequest(task=made.id))
    assert len(found.variables) == 16
    assert found.spec.steps[0].command.stdin == command.stdin


async def test_a_cancel_note(server: Server, doors: Doors) -> None:
    made = await doors.submit()
    wrong = run_pb2.CancelRunRequest(run=made.id, note="n" * (KIB + 1))
    assert await offending(doors.runs.CancelRun(wrong)) == ["note"]
    assert (await doors.run(made.id)).state == run_pb2.RUN_STATE_QUEUED
    await doors.runs.CancelRun(run_pb2.CancelRunRequest(run=made.id, note="n" * KIB))
    assert (await doors.run(made.id)).state == run_pb2.RUN_STATE_CANCELLED


async def test_a_page_is_clamped_and_a_negative_one_refused(server: Server, doors: Doors) -> None:
    await doors.runs.ListRuns(run_pb2.ListRunsRequest(page_size=1001))
    assert await offending(doors.runs.ListRuns(run_pb2.ListRunsRequest(page_size=-1))) == ["page_size"]


async def test_what_belongs_to_others_is_not_there(server: Server, doors: Doors) -> None:
    project = project_pb2.CreateProjectRequest(project=project_pb2.Project(name="other"))
    await doors.projects.CreateProject(project)
    await doors.tasks.CreateTask(task())
    elsewhere = [
        doors.tasks.GetTask(task_pb2.GetTaskRequest(project="other", task="t")),
        doors.tasks.RunTask(task_pb2.RunTaskRequest(project="other", task="t")),
        doors.tasks.DeleteTask(task_pb2.DeleteTaskRequest(project="other", task="t")),
        doors.tasks.GetTask(task_pb2.GetTaskRequest(project="nowhere", task="t")),
    ]
    for call in elsewhere:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
