"""TaskService."""

from __future__ import annotations

from functools import partial

from banksman.v1 import run_pb2, task_pb2, task_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.api.convert import OPTIONS, SPEC, decoded
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.masks import wanted_fields
from control_plane.api.pages import page_answer, page_request
from control_plane.api.records import task_message
from control_plane.domain.ids import ProjectId
from control_plane.domain.task import Task
from control_plane.lifecycle import runs, tasks
from control_plane.storage import reads

WRITABLE = ("name", "description", "spec", "labels", "tags", "active")


class TaskServicer(task_pb2_grpc.TaskServiceServicer):
    """Saved definitions of what to run."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateTask(self, request: task_pb2.CreateTaskRequest, context: Context) -> task_pb2.Task:
        project, asked = await self._desk.project(request.project), request.task
        new = tasks.NewTask(
            project_id=project.id,
            name=asked.name,
            spec=decoded(SPEC, asked.spec, "task.spec"),
            description=asked.description,
            labels=dict(asked.labels),
            tags=tuple(asked.tags),
            active=asked.active if asked.HasField("active") else True,
        )
        return await self._whole(await tasks.create(self._desk.house, self._desk.caller(request.request_id), new))

    async def GetTask(self, request: task_pb2.GetTaskRequest, context: Context) -> task_pb2.Task:
        project = await self._desk.project(request.project)
        return await self._whole(await self._find(project.id, request.task))

    async def ListTasks(self, request: task_pb2.ListTasksRequest, context: Context) -> task_pb2.ListTasksResponse:
        project = await self._desk.project(request.project)
        query = partial(
            reads.list_tasks, project_id=project.id, request=page_request(request), name_prefix=request.name_prefix
        )
        return page_answer(task_pb2.ListTasksResponse, "tasks", await self._desk.read(query), task_message)

    async def UpdateTask(self, request: task_pb2.UpdateTaskRequest, context: Context) -> task_pb2.Task:
        project = await self._desk.project(request.project)
        change = _change(request)
        task = await self._find(project.id, request.task.id or request.task.name)
        return await self._whole(await tasks.update(self._desk.house, task.id, change))

    async def DeleteTask(self, request: task_pb2.DeleteTaskRequest, context: Context) -> Empty:
        project = await self._desk.project(request.project)
        task = await self._find(project.id, request.task)
        await tasks.delete(self._desk.house, self._desk.caller(), task.id, request.etag)
        return Empty()

    async def RunTask(self, request: task_pb2.RunTaskRequest, context: Context) -> run_pb2.Run:
        project = await self._desk.project(request.project)
        task = await self._find(project.id, request.task)
        options = decoded(OPTIONS, request.options, "options")
        new = runs.NewRun(project_id=project.id, task_id=task.id, options=options)
        run = await runs.create(self._desk.house, self._desk.caller(request.request_id), new)
        return await self._desk.views.whole(run)

    async def _find(self, project_id: ProjectId, text: str) -> Task:
        return await self._desk.read(partial(reads.the_task, project_id=project_id, id_or_name=text))

    async def _whole(self, task: Task) -> task_pb2.Task:
        spec = await self._desk.read(partial(self._desk.house.spec, sha256=task.spec_sha256))
        return task_message(task, spec)


def _change(request: task_pb2.UpdateTaskRequest) -> tasks.TaskChange:
    wanted, asked = wanted_fields(request.update_mask.paths, WRITABLE), request.task
    return tasks.TaskChange(
        name=asked.name if "name" in wanted else None,
        description=asked.description if "description" in wanted else None,
        spec=decoded(SPEC, asked.spec, "task.spec") if "spec" in wanted else None,
        labels=dict(asked.labels) if "labels" in wanted else None,
        tags=tuple(asked.tags) if "tags" in wanted else None,
        active=asked.active if "active" in wanted and asked.HasField("active") else None,
        etag=asked.etag,
    )
