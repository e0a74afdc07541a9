"""Who sees whose tasks: every method that names a task or a schedule, for every kind of caller."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import access_pb2, project_pb2, run_pb2, schedule_pb2, task_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from tests.fakes.server import spec
from tests.integration.server.test_access import member, methods

OK, NOT_FOUND = grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND
# Who may call what about a task: whoever sees it, its owner (and admins), or anybody of the project.
SEES, OWNS, ANYBODY = "sees", "owns", "anybody"
NEEDS = {
    "TaskService/CreateTask": ANYBODY,
    "TaskService/GetTask": SEES,
    "TaskService/UpdateTask": OWNS,
    "TaskService/DeleteTask": OWNS,
    "TaskService/UndeleteTask": OWNS,
    "TaskService/PurgeTask": OWNS,
    "TaskService/DeleteTaskRuns": OWNS,
    "TaskService/RunTask": SEES,
    "RunService/CreateRun": SEES,
    "RunService/ListRuns": SEES,
    "RunService/WatchRuns": SEES,
    "ScheduleService/CreateSchedule": SEES,
    "ScheduleService/GetSchedule": SEES,
    "ScheduleService/ListSchedules": SEES,
    "ScheduleService/UpdateSchedule": OWNS,
    "ScheduleService/DeleteSchedule": OWNS,
    "ScheduleService/PauseSchedule": OWNS,
    "ScheduleService/ResumeSchedule": OWNS,
    "ScheduleService/TriggerSchedule": SEES,
    "ScheduleService/PreviewSchedule": SEES,
    "ScheduleService/BackfillSchedule": OWNS,
    "ScheduleService/ListFirings": SEES,
    "NotificationService/ListDeliveries": OWNS,
}
DELETED = {"TaskService/UndeleteTask", "TaskService/PurgeTask"}
CALLERS = ("owner", "admin", "member", "stranger")
ALLOWED = {
    ("private", SEES): {"owner", "admin"},
    ("private", OWNS): {"owner", "admin"},
    ("public", SEES): {"owner", "admin", "member"},
    ("public", OWNS): {"owner", "admin"},
}


def named(method):
    return f"{method.containing_service.name}/{method.name}"


def about_tasks():
    """The methods whose request names a task or a schedule, from the descriptors."""
    for method in methods():
        fields = method.input_type.fields_by_name
        if method.containing_service.name != "TemplateService" and ("task" in fields or "schedule" in fields):
            yield method


def test_every_method_about_a_task_is_judged():
    assert {named(method) for method in about_tasks()} == set(NEEDS)


class People:
    """A project with its people, who call."""

    def __init__(self, server):
        self.server, self.doors, self.tasks = server, {}, 0

    async def arrive(self):
        self.doors["admin"] = self.server.doors()
        projects = self.doors["admin"].projects
        for name in ("web", "else"):
            await projects.CreateProject(project_pb2.CreateProjectRequest(project=project_pb2.Project(name=name)))
        for name, project in (("owner", "web"), ("member", "web"), ("stranger", "else")):
            self.doors[name] = self.server.doors(await member(self.doors["admin"], name, project))

    async def task(self, *, public, deleted=False):
        """A fresh task of the owner's, with a schedule of the same name."""
        self.tasks += 1
        name = f"task {self.tasks}"
        schedule = schedule_pb2.Schedule(cron="@yearly")
        task = task_pb2.Task(name=name, spec=spec("true"), is_public=public, schedules=[schedule])
        await self.doors["owner"].tasks.CreateTask(task_pb2.CreateTaskRequest(project="web", task=task))
        if deleted:
            await self.doors["owner"].tasks.DeleteTask(task_pb2.DeleteTaskRequest(project="web", task=name))
        return name


def request_for(method, name):
    """The method's request about the task, or its schedule, of this name."""
    request = message_factory.GetMessageClass(method.input_type)(project="web")
    fields = method.input_type.fields_by_name
    match named(method):
        case "ScheduleService/CreateSchedule":
            request.schedule.CopyFrom(schedule_pb2.Schedule(name=f"{name} too", task_id=name, cron="@daily"))
        case "ScheduleService/UpdateSchedule":
            request.schedule.CopyFrom(schedule_pb2.Schedule(name=name, time_zone="Asia/Tokyo"))
            request.update_mask.paths.append("time_zone")
        case "ScheduleService/BackfillSchedule":
            request.schedule = name
            request.start_at.FromSeconds(1)
            request.end_at.FromSeconds(2)
        case "TaskService/UpdateTask":
            request.task.CopyFrom(task_pb2.Task(name=name, description="changed"))
            request.update_mask.paths.append("description")
        case "TaskService/CreateTask":
            request.task.CopyFrom(task_pb2.Task(name=f"{name} too", spec=spec("true")))
        case _:
            for field in ("task", "schedule"):
                if field in fields and fields[field].type == FieldDescriptor.TYPE_STRING:
                    setattr(request, field, name)
    return request


async def status(doors, method, request):
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer = message_factory.GetMessageClass(method.output_type)
    words = {"request_serializer": type(request).SerializeToString, "response_deserializer": answer.FromString}
    try:
        if method.server_streaming:
            stream = doors.channel.unary_stream(path, **words)(request, timeout=20)
            await stream.read()
            stream.cancel()
        else:
            await doors.channel.unary_unary(path, **words)(request, timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return OK


@pytest.mark.parametrize("kind", ["private", "public"])
async def test_every_method_for_every_caller(server, kind):
    people = People(server)
    await people.arrive()
    for method in about_tasks():
        needs = NEEDS[named(method)]
        for caller in CALLERS:
            name = await people.task(public=kind == "public", deleted=named(method) in DELETED)
            if method.server_streaming:
                # Something that a watch shows at once.
                await people.doors["owner"].tasks.RunTask(task_pb2.RunTaskRequest(project="web", task=name))
            got = await status(people.doors[caller], method, request_for(method, name))
            allowed = caller != "stranger" if needs == ANYBODY else caller in ALLOWED[kind, needs]
            assert got is (OK if allowed else NOT_FOUND), (named(method), kind, caller)


async def test_lists_show_ones_own_and_public_tasks(server):
    people = People(server)
    await people.arrive()
    private, public = await people.task(public=False), await people.task(public=True)
    gone = await people.task(public=False, deleted=True)
    for caller, wanted in (("owner", [private, public]), ("admin", [private, public]), ("member", [public])):
        doors = people.doors[caller]
        listed = await doors.tasks.ListTasks(task_pb2.ListTasksRequest(project="web", include_total_size=True))
        assert ([task.name for task in listed.tasks], listed.total_size) == (wanted, len(wanted))
        schedules = await doors.schedules.ListSchedules(schedule_pb2.ListSchedulesRequest(project="web"))
        assert [schedule.name for schedule in schedules.schedules] == wanted
        everything = await doors.tasks.ListTasks(task_pb2.ListTasksRequest(project="web", show_deleted=True))
        assert (gone in [task.name for task in everything.tasks]) is (caller != "member")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await people.doors["stranger"].tasks.ListTasks(task_pb2.ListTasksRequest(project="web"))
    assert caught.value.code() is NOT_FOUND


async def test_who_sees_a_task_learns_why_it_cannot_be_changed(server):
    people = People(server)
    await people.arrive()
    public, private = await people.task(public=True), await people.task(public=False)
    method = next(method for method in about_tasks() if named(method) == "TaskService/UpdateTask")
    told = []
    for name in (public, private):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await people.doors["member"].tasks.UpdateTask(request_for(method, name))
        assert caught.value.code() is NOT_FOUND
        told.append(caught.value.details())
    assert told[0] == f"Task {public!r} is not yours to change: only its owner and admins may."
    assert told[1] == f"There is no task {private!r}."


async def test_only_an_admin_gives_a_task_to_another(server):
    people = People(server)
    await people.arrive()
    name = await people.task(public=True)

    async def give(caller, to):
        request = task_pb2.UpdateTaskRequest(project="web", task=task_pb2.Task(name=name, owner=to))
        request.update_mask.paths.append("owner")
        return await status_of(people.doors[caller].tasks.UpdateTask(request))

    assert await give("owner", "member") is grpc.StatusCode.INVALID_ARGUMENT
    assert await give("owner", "owner") is OK
    assert await give("admin", "stranger") is grpc.StatusCode.INVALID_ARGUMENT, "it may not use the project"
    assert await give("admin", "member") is OK
    assert await give("owner", "owner") is NOT_FOUND
    me = await people.doors["member"].access.WhoAmI(access_pb2.WhoAmIRequest())
    task = await people.doors["member"].tasks.GetTask(task_pb2.GetTaskRequest(project="web", task=name))
    assert task.owner == me.id


@pytest.mark.parametrize("public", [False, True])
async def test_runs_of_a_task_are_seen_by_those_who_see_it(server, public):
    people = People(server)
    await people.arrive()
    name = await people.task(public=public)
    run = await people.doors["owner"].tasks.RunTask(task_pb2.RunTaskRequest(project="web", task=name))
    await people.doors["owner"].runs.CancelRun(run_pb2.CancelRunRequest(run=run.id))
    for caller in CALLERS:
        sees = caller in ALLOWED["public" if public else "private", SEES]
        runs, wanted = people.doors[caller].runs, OK if sees else NOT_FOUND
        assert await status_of(runs.GetRun(run_pb2.GetRunRequest(run=run.id))) is wanted, caller
        assert await status_of(runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=run.id))) is wanted, caller
        assert await status_of(runs.RetryRun(run_pb2.RetryRunRequest(run=run.id))) is wanted, caller
    for caller in ("owner", "admin", "member"):
        runs = people.doors[caller].runs
        found = await runs.ListRuns(run_pb2.ListRunsRequest(project="web"))
        assert (run.id in [each.id for each in found.runs]) is (public or caller != "member"), caller


async def test_a_watch_of_a_project_leaves_out_what_its_watcher_may_not_see(server):
    people = People(server)
    await people.arrive()
    private, public = await people.task(public=False), await people.task(public=True)
    runs = people.doors["member"].runs
    own = await runs.CreateRun(run_pb2.CreateRunRequest(project="web", spec=spec("true")))
    stream = runs.WatchRuns(run_pb2.WatchRunsRequest(project="web"), timeout=20)
    assert (await stream.read()).run.id == own.id
    for name in (private, public):
        await people.doors["owner"].tasks.RunTask(task_pb2.RunTaskRequest(project="web", task=name))
    assert (await stream.read()).run.task_name == public
    stream.cancel()


async def status_of(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return OK


async def test_who_sees_a_run_learns_why_it_cannot_be_deleted(server):
    people = People(server)
    await people.arrive()
    task = await people.task(public=True)
    run = await people.doors["owner"].tasks.RunTask(task_pb2.RunTaskRequest(project="web", task=task))
    for name, told in (("member", "is not yours to delete"), ("stranger", "There is no run")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await people.doors[name].runs.DeleteRun(run_pb2.DeleteRunRequest(run=run.id))
        assert caught.value.code() is NOT_FOUND
        assert told in caught.value.details()
