"""ProjectService."""

from __future__ import annotations

from functools import partial

from banksman.v1 import project_pb2, project_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.api.convert import CONCURRENCY, decoded
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.masks import wanted_fields
from control_plane.api.pages import page_answer, page_request
from control_plane.api.records import PROJECT, RETENTION
from control_plane.domain.concurrency import ConcurrencyLimit
from control_plane.domain.project import Retention
from control_plane.lifecycle import projects
from control_plane.storage import reads

WRITABLE = ("name", "description", "concurrency", "retention")


class ProjectServicer(project_pb2_grpc.ProjectServiceServicer):
    """Namespaces for tasks, secrets and permissions."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateProject(self, request: project_pb2.CreateProjectRequest, context: Context) -> project_pb2.Project:
        new = _new(request.project)
        return PROJECT.encode(await projects.create(self._desk.house, self._desk.caller(request.request_id), new))

    async def GetProject(self, request: project_pb2.GetProjectRequest, context: Context) -> project_pb2.Project:
        return PROJECT.encode(await self._desk.project(request.project))

    async def ListProjects(
        self, request: project_pb2.ListProjectsRequest, context: Context
    ) -> project_pb2.ListProjectsResponse:
        principal = self._desk.caller().principal
        only = None if principal.admin else principal.project_ids
        page = await self._desk.read(partial(reads.list_projects, request=page_request(request), only=only))
        return page_answer(project_pb2.ListProjectsResponse, "projects", page, PROJECT.encode)

    async def UpdateProject(self, request: project_pb2.UpdateProjectRequest, context: Context) -> project_pb2.Project:
        asked = request.project
        project = await self._desk.project(asked.id or asked.name)
        return PROJECT.encode(await projects.update(self._desk.house, project.id, _change(request)))

    async def DeleteProject(self, request: project_pb2.DeleteProjectRequest, context: Context) -> Empty:
        project = await self._desk.project(request.project)
        await projects.delete(self._desk.house, project.id, request.etag)
        return Empty()


def _new(asked: project_pb2.Project) -> projects.NewProject:
    return projects.NewProject(
        name=asked.name, description=asked.description, concurrency=_limit(asked), retention=_retention(asked)
    )


def _limit(asked: project_pb2.Project) -> ConcurrencyLimit | None:
    if not asked.HasField("concurrency"):
        return None
    return decoded(CONCURRENCY, asked.concurrency, "project.concurrency")


def _retention(asked: project_pb2.Project) -> Retention:
    return decoded(RETENTION, asked.retention, "project.retention")


def _change(request: project_pb2.UpdateProjectRequest) -> projects.ProjectChange:
    wanted, asked = wanted_fields(request.update_mask.paths, WRITABLE), request.project
    return projects.ProjectChange(
        name=asked.name if "name" in wanted and (asked.name or request.update_mask.paths) else None,
        description=asked.description if "description" in wanted else None,
        concurrency=(_limit(asked) or ConcurrencyLimit()) if "concurrency" in wanted else None,
        retention=_retention(asked) if "retention" in wanted else None,
        etag=asked.etag,
    )
