"""Bad input to a real server: what is not yours is not there, all that is wrong is named at once, nothing is stored."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from banksman.v1 import access_pb2, project_pb2, schedule_pb2, spec_pb2, task_pb2, template_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Value
from google.rpc import error_details_pb2, status_pb2

from tests.scenarios.doors import Doors
from tests.scenarios.house import House
from tests.scenarios.specs import spec

Code = grpc.StatusCode


def refusal(call: Callable[..., Any], request: object) -> tuple[grpc.StatusCode, list[str]]:
    """How a call was refused, and the fields that the answer names."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    found = error_details_pb2.BadRequest()
    data = [each.value for each in caught.value.trailing_metadata() or () if each.key == "grpc-status-details-bin"]
    whole = status_pb2.Status.FromString(data[0] if data and isinstance(data[0], bytes) else b"")
    for detail in whole.details:
        if detail.Is(found.DESCRIPTOR):
            detail.Unpack(found)
    return caught.value.code(), sorted(violation.field for violation in found.field_violations)


def member(house: House, project: str) -> Doors:
    """Somebody who may use one project."""
    name = f"member {uuid.uuid4()}"
    kind = access_pb2.PRINCIPAL_KIND_USER
    who = access_pb2.Principal(kind=kind, name=name, project_ids=[project])
    house.doors.access.CreatePrincipal(access_pb2.CreatePrincipalRequest(principal=who))
    return house.client(house.doors.access.CreateToken(access_pb2.CreateTokenRequest(principal=name)).secret)


def create(house: House, **fields: Any) -> task_pb2.Task:
    words: dict[str, Any] = {"name": f"fine {uuid.uuid4()}", "spec": spec(["true"])}
    request = task_pb2.CreateTaskRequest(task=task_pb2.Task(**(words | fields)))
    return house.doors.tasks.CreateTask(request)


def tasks_called(house: House, prefix: str) -> int:
    return len(house.doors.tasks.ListTasks(task_pb2.ListTasksRequest(name_prefix=prefix)).tasks)


def test_what_belongs_to_others_is_not_there(shared: House) -> None:
    made = create(shared, name=f"hidden {uuid.uuid4()}")
    other = f"other {uuid.uuid4()}"
    shared.doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project_pb2.Project(name=other)))
    same, stranger = member(shared, "default"), member(shared, other)
    for doors in (same, stranger):
        for call, request in (
            (doors.tasks.GetTask, task_pb2.GetTaskRequest(task=made.id)),
            (doors.tasks.UpdateTask, task_pb2.UpdateTaskRequest(task=made)),
            (doors.tasks.DeleteTask, task_pb2.DeleteTaskRequest(task=made.id)),
            (doors.tasks.RunTask, task_pb2.RunTaskRequest(task=made.id)),
        ):
            assert refusal(call, request) == (Code.NOT_FOUND, [])
    wanted = task_pb2.ListTasksRequest(project="default")
    assert refusal(stranger.tasks.ListTasks, wanted)[0] in (Code.NOT_FOUND, Code.PERMISSION_DENIED)
    assert made.id not in {each.id for each in same.tasks.ListTasks(wanted).tasks}
    assert shared.doors.tasks.GetTask(task_pb2.GetTaskRequest(task=made.id)).etag == made.etag


def test_all_that_is_wrong_is_named_and_nothing_is_stored(shared: House) -> None:
    name = f"wrong {uuid.uuid4()}/"
    bad = task_pb2.Task(
        name=name,
        spec=spec(["true"]),
        tags=["", "x" * 64],
        report=task_pb2.ReportSettings(enabled=True, formats=[task_pb2.REPORT_FORMAT_JSON, 99]),  # type: ignore[list-item]
        schedules=[schedule_pb2.Schedule(name=each, cron=each) for each in ("0 25 * * *", "0 0 30 2 *")],
    )
    wrong = ["task.name", "task.report.formats[1]", "task.schedules[0].cron", "task.schedules[1].cron"]
    wrong += ["task.tags[0]", "task.tags[1]"]
    found = refusal(shared.doors.tasks.CreateTask, task_pb2.CreateTaskRequest(task=bad))
    assert found == (Code.INVALID_ARGUMENT, wrong)
    assert tasks_called(shared, "wrong ") == 0

    made = create(shared)
    mask = FieldMask(paths=["tags", "nothing", "created_at"])
    request = task_pb2.UpdateTaskRequest(task=task_pb2.Task(id=made.id, tags=[""]), update_mask=mask)
    found = refusal(shared.doors.tasks.UpdateTask, request)
    assert found == (Code.INVALID_ARGUMENT, ["task.tags[0]", "update_mask.paths[1]", "update_mask.paths[2]"])
    assert shared.doors.tasks.GetTask(task_pb2.GetTaskRequest(task=made.id)) == made


def test_a_bad_parameter_of_a_template_makes_no_task(shared: House) -> None:
    parameters = [
        template_pb2.TemplateParameter(name="place", required=True, allowed_values=[Value(string_value="yard")]),
        template_pb2.TemplateParameter(name="count", type=template_pb2.PARAMETER_TYPE_INTEGER),
    ]
    template = template_pb2.Template(
        name=f"t {uuid.uuid4()}", spec=spec(["echo", "{{ place }}", "{{ count }}"]), parameters=parameters
    )
    shared.doors.templates.CreateTemplate(template_pb2.CreateTemplateRequest(template=template))
    request = template_pb2.InstantiateTemplateRequest(
        template=template.name,
        task=task_pb2.Task(name="wrong template"),
    )
    for parameter, value in (("place", "sea"), ("count", "x"), ("y", "z")):
        request.parameters[parameter].string_value = value
    found = refusal(shared.doors.templates.InstantiateTemplate, request)
    assert found == (Code.INVALID_ARGUMENT, ["parameters[count]", "parameters[place]", "parameters[y]"])
    assert tasks_called(shared, "wrong template") == 0


EVENTS = [task_pb2.NOTIFICATION_EVENT_FAILED]
LISTS: dict[str, tuple[int, Callable[[int], dict[str, Any]]]] = {
    "name": (255, lambda size: {"name": uuid.uuid4().hex + "n" * (size - 32)}),
    "tags": (32, lambda size: {"tags": [f"t{number}" for number in range(size)]}),
    "labels": (32, lambda size: {"labels": {f"k{number}": "v" for number in range(size)}}),
    "variables": (64, lambda size: {"variables": [task_pb2.Variable(name=f"v{number}") for number in range(size)]}),
    "notifications": (
        16,
        lambda size: {
            "notifications": [
                task_pb2.NotificationSettings(events=EVENTS, webhook_url=f"https://a.example/{number}")
                for number in range(size)
            ]
        },
    ),
    "schedules": (
        32,
        lambda size: {
            "schedules": [
                schedule_pb2.Schedule(name=f"s {uuid.uuid4()}", cron="0 0 1 1 *", paused=True) for _ in range(size)
            ]
        },
    ),
    "spec.env": (
        256,
        lambda size: {
            "spec": spec(["true"], env=[spec_pb2.EnvVar(name=f"E{number}", value="v") for number in range(size)])
        },
    ),
}


@pytest.mark.parametrize("field", LISTS)
def test_lists_and_lengths_at_their_limit_and_one_more(shared: House, field: str) -> None:
    most, fields = LISTS[field]
    made = create(shared, **fields(most))
    assert shared.doors.tasks.GetTask(task_pb2.GetTaskRequest(task=made.id)) == made
    over: dict[str, Any] = {"name": f"over {uuid.uuid4()}", "spec": spec(["true"])}
    more = task_pb2.Task(**(over | fields(most + 1)))
    found = refusal(shared.doors.tasks.CreateTask, task_pb2.CreateTaskRequest(task=more))
    assert found == (Code.INVALID_ARGUMENT, [f"task.{field}"])
    assert tasks_called(shared, more.name[:60]) == 0
