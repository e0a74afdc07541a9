"""Every offending field of a task is in one answer, whether it has no meaning at all or breaks a rule."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import run_pb2, schedule_pb2, spec_pb2, task_pb2, template_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.rpc import error_details_pb2, status_pb2

from tests.fakes.server import spec


async def offending(call) -> list[str]:
    """The fields that a refusal names."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    found = error_details_pb2.BadRequest()
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Is(found.DESCRIPTOR):
            detail.Unpack(found)
    return sorted(violation.field for violation in found.field_violations)


def bad_task(**more) -> task_pb2.Task:
    task = task_pb2.Task(
        name="a/b",
        tags=["", "fine"],
        spec=spec("echo", timeout=Duration(seconds=-1)),
        variables=[
            task_pb2.Variable(name="o", default_value=Value(struct_value=Struct())),
            task_pb2.Variable(name="1"),
        ],
        report=task_pb2.ReportSettings(enabled=True, formats=[task_pb2.REPORT_FORMAT_PDF, 99]),
        notifications=[task_pb2.NotificationSettings(events=[77, 1], webhook_url="nowhere")],
        owner="nobody",
        **more,
    )
    task.spec.steps[0].kind = 55
    task.spec.retry.retry_on.append("boredom")
    return task


WRONG = [
    "task.name",
    "task.notifications[0].events[0]",
    "task.notifications[0].webhook_url",
    "task.owner",
    "task.report.formats[1]",
    "task.spec.retry.retry_on[0]",
    "task.spec.steps[0].kind",
    "task.spec.timeout",
    "task.tags[0]",
    "task.variables[0].default_value",
    "task.variables[1].name",
]


async def test_a_create_names_all_of_it(server, doors):
    schedules = [schedule_pb2.Schedule(name="s", cron="* * * *"), schedule_pb2.Schedule(name="t", overlap=9, cron="@x")]
    request = task_pb2.CreateTaskRequest(task=bad_task(schedules=schedules), request_id="x" * 129)
    expected = [*WRONG, "request_id", "task.schedules[0].cron", "task.schedules[1].cron", "task.schedules[1].overlap"]
    assert await offending(doors.tasks.CreateTask(request)) == sorted(expected)
    assert not (await doors.tasks.ListTasks(task_pb2.ListTasksRequest())).tasks


async def test_an_update_names_all_of_it_with_its_mask(server, doors):
    task = await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task_pb2.Task(name="n", spec=spec("true"))))
    request = task_pb2.UpdateTaskRequest(task=bad_task(id=task.id))
    request.update_mask.paths.extend(
        ["created_at", "name", "tags", "spec", "variables", "report", "notifications", "owner", "schedules"]
    )
    expected = [*WRONG, "update_mask.paths[0]", "update_mask.paths[8]"]
    assert await offending(doors.tasks.UpdateTask(request)) == sorted(expected)
    assert await doors.tasks.GetTask(task_pb2.GetTaskRequest(task="n")) == task


async def test_a_run_names_all_of_it(server, doors):
    await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task_pb2.Task(name="n", spec=spec("true"))))
    request = task_pb2.RunTaskRequest(task="n")
    options = request.options
    options.priority = 101
    options.labels["bad key!"] = "v"
    options.trigger_metadata["k"] = "x" * 8192
    options.deadline.FromSeconds(1)
    options.variables["1"].string_value = "x"
    expected = ["deadline", "labels", "priority", "trigger_metadata", "variables[1]"]
    assert await offending(doors.tasks.RunTask(request)) == [f"options.{name}" for name in expected]
    request = task_pb2.RunTaskRequest(task="n")
    request.options.variables["a b"].string_value = "x"
    request.options.variables["ok"].string_value = "\0"
    request.options.sensitive_variables.extend(["ok", "missing"])
    expected = ["options.sensitive_variables[1]", "options.variables[a b]", "options.variables[ok]"]
    assert sorted(set(await offending(doors.tasks.RunTask(request)))) == expected
    overrides = task_pb2.RunTaskRequest(task="n")
    overrides.options.overrides.slots = 5
    overrides.options.overrides.env.append(spec_pb2.EnvVar(name="A", value="b"))
    expected = ["options.overrides.env", "options.overrides.slots"]
    assert await offending(doors.tasks.RunTask(overrides)) == expected


@pytest.mark.parametrize(
    ("door", "method", "module"),
    [
        ("tasks", "ListTasks", task_pb2),
        ("templates", "ListTemplates", template_pb2),
        ("runs", "ListRuns", run_pb2),
    ],
)
async def test_a_list_names_all_of_it(server, doors, door, method, module):
    request = getattr(module, f"{method}Request")(filter="nothing = 1", page_size=-1)
    wrong = ["filter", "page_size"]
    if method == "ListRuns":
        request.states.append(99)
        wrong.append("states[0]")
    assert await offending(getattr(getattr(doors, door), method)(request)) == wrong
