"""TaskService."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from banksman.v1 import run_pb2, task_pb2, task_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.api.convert import OPTIONS, decoded
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.pages import page_answer, page_request
from control_plane.api.records import SCHEDULE, task_message
from control_plane.api.task_requests import change_of, new_task_of, owner_of, task_filter_of
from control_plane.domain.errors import FieldViolation
from control_plane.domain.ids import PrincipalId, ProjectId
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import Task
from control_plane.lifecycle import purges, runs, tasks
from control_plane.storage import reads


class TaskServicer(task_pb2_grpc.TaskServiceServicer):
    """Saved definitions of what to run."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateTask(self, request: task_pb2.CreateTaskRequest, context: Context) -> task_pb2.Task:
        project = await self._desk.project(request.project)
        caller = self._desk.caller(request.request_id)
        owner, wrong = await self._owner(request.task.owner, project.id)
        asked = new_task_of(request.task, project.id)
        new, found, only = replace(asked.what, owner=owner), (*asked.wrong, *wrong), request.validate_only
        made = await tasks.create(self._desk.house, caller, new, found, validate_only=only)
        return await whole_task(self._desk, made, new.spec if only else None)

    async def GetTask(self, request: task_pb2.GetTaskRequest, context: Context) -> task_pb2.Task:
        found = await self._desk.task(request.project, request.task, show_deleted=request.show_deleted)
        return await whole_task(self._desk, found)

    async def ListTasks(self, request: task_pb2.ListTasksRequest, context: Context) -> task_pb2.ListTasksResponse:
        project = await self._desk.project(request.project)
        wanted = task_filter_of(request, self._desk.caller())
        query = partial(reads.list_tasks, project_id=project.id, request=page_request(request), wanted=wanted)
        return page_answer(task_pb2.ListTasksResponse, "tasks", await self._desk.read(query), task_message)

    async def UpdateTask(self, request: task_pb2.UpdateTaskRequest, context: Context) -> task_pb2.Task:
        asked = change_of(request)
        task = await self._desk.own_task(request.project, request.task.id or request.task.name)
        owner, wrong = await self._owner(owner_of(request.task, request.update_mask), task.project_id)
        change, found, only = replace(asked.what, owner=owner), (*asked.wrong, *wrong), request.validate_only
        changed = await tasks.update(self._desk.house, task.id, change, found, validate_only=only)
        return await whole_task(self._desk, changed, change.spec if only else None)

    async def DeleteTask(self, request: task_pb2.DeleteTaskRequest, context: Context) -> Empty:
        task = await self._desk.own_task(request.project, request.task)
        await tasks.delete(self._desk.house, self._desk.caller(), task.id, request.etag)
        return Empty()

    async def UndeleteTask(self, request: task_pb2.UndeleteTaskRequest, context: Context) -> task_pb2.Task:
        task = await self._desk.own_task(request.project, request.task, deleted=True)
        return await whole_task(self._desk, await tasks.undelete(self._desk.house, task.id, request.etag))

    async def PurgeTask(self, request: task_pb2.PurgeTaskRequest, context: Context) -> Empty:
        task = await self._desk.own_task(request.project, request.task, deleted=True)
        await tasks.purge(self._desk.house, task.id, request.etag)
        return Empty()

    async def DeleteTaskRuns(
        self, request: task_pb2.DeleteTaskRunsRequest, context: Context
    ) -> task_pb2.DeleteTaskRunsResponse:
        task = await self._desk.own_task(request.project, request.task, deleted=request.deleted_task)
        count = await purges.delete_task_runs(self._desk.house, self._desk.caller(), task.id)
        return task_pb2.DeleteTaskRunsResponse(deleted_count=count)

    async def RunTask(self, request: task_pb2.RunTaskRequest, context: Context) -> run_pb2.Run:
        task = await self._desk.task(request.project, request.task)
        options = decoded(OPTIONS, request.options, "options")
        new = runs.NewRun(project_id=task.project_id, task_id=task.id, options=options)
        run = await runs.create(self._desk.house, self._desk.caller(request.request_id), new)
        return await self._desk.views.whole(run)

    async def _owner(self, text: str, project_id: ProjectId) -> tuple[PrincipalId | None, tuple[FieldViolation, ...]]:
        return await tasks.new_owner(self._desk.house, self._desk.caller(), text, project_id)


async def whole_task(desk: Desk, task: Task, spec: RunSpec | None = None) -> task_pb2.Task:
    """A task with its spec and its schedules; `spec`: one that is not stored."""
    known_spec = spec or await desk.read(partial(desk.house.spec, sha256=task.spec_sha256))
    message = task_message(task, known_spec)
    known = await desk.read(partial(reads.schedules_of_task, task_id=task.id))
    message.schedules.extend(SCHEDULE.encode(schedule) for schedule in known)
    return message
