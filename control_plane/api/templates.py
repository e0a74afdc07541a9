"""TemplateService."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from banksman.v1 import task_pb2, template_pb2, template_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.pages import page_answer, page_request
from control_plane.api.task_requests import owner_of
from control_plane.api.tasks import whole_task
from control_plane.api.template_records import template_message
from control_plane.api.template_requests import (
    change_of,
    instance_of,
    new_template_of,
    owned_by,
    template_filter_of,
)
from control_plane.domain.errors import FieldViolation
from control_plane.domain.ids import PrincipalId, ProjectId
from control_plane.domain.spec import RunSpec
from control_plane.domain.template import Template
from control_plane.lifecycle import tasks, templates
from control_plane.storage import reads


class TemplateServicer(template_pb2_grpc.TemplateServiceServicer):
    """Definitions with parameters, from which tasks and runs are made."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateTemplate(
        self, request: template_pb2.CreateTemplateRequest, context: Context
    ) -> template_pb2.Template:
        project = await self._desk.project(request.project)
        caller = self._desk.caller(request.request_id)
        owner, wrong = await self._owner(request.template.owner, project.id, "template.owner")
        asked = new_template_of(request.template, project.id)
        new, found = replace(asked.what, owner=owner), (*asked.wrong, *wrong)
        only = request.validate_only
        made = await templates.create(self._desk.house, caller, new, found, validate_only=only)
        return await self._whole(made, new.spec if only else None)

    async def GetTemplate(self, request: template_pb2.GetTemplateRequest, context: Context) -> template_pb2.Template:
        newest = await self._desk.template(request.project, request.template)
        query = partial(reads.template_version, newest=newest, version=request.version)
        return await self._whole(await self._desk.read(query))

    async def ListTemplates(
        self, request: template_pb2.ListTemplatesRequest, context: Context
    ) -> template_pb2.ListTemplatesResponse:
        project = await self._desk.project(request.project)
        wanted = template_filter_of(request, self._desk.caller())
        query = partial(reads.list_templates, project_id=project.id, request=page_request(request), wanted=wanted)
        page = await self._desk.read(query)
        return page_answer(template_pb2.ListTemplatesResponse, "templates", page, template_message)

    async def UpdateTemplate(
        self, request: template_pb2.UpdateTemplateRequest, context: Context
    ) -> template_pb2.Template:
        asked = change_of(request)
        known = await self._desk.template(request.project, request.template.id or request.template.name, own=True)
        said = owner_of(request.template, request.update_mask)
        owner, wrong = await self._owner(said, known.project_id, "template.owner")
        change, found = replace(asked.what, owner=owner), (*asked.wrong, *wrong)
        caller, only = self._desk.caller(), request.validate_only
        changed = await templates.update(self._desk.house, caller, known.id, change, found, validate_only=only)
        return await self._whole(changed, change.spec if only else None)

    async def DeleteTemplate(self, request: template_pb2.DeleteTemplateRequest, context: Context) -> Empty:
        template = await self._desk.template(request.project, request.template, own=True)
        await templates.delete(self._desk.house, template.id, request.etag)
        return Empty()

    async def InstantiateTemplate(
        self, request: template_pb2.InstantiateTemplateRequest, context: Context
    ) -> task_pb2.Task:
        template = await self._desk.template(request.project, request.template)
        caller = self._desk.caller(request.request_id)
        asked = instance_of(request, template)
        owner, wrong = await self._owner(request.task.owner, template.project_id, "task.owner")
        instance, found = owned_by(asked.what, owner), (*asked.wrong, *wrong)
        task = await templates.instantiate(self._desk.house, caller, instance, found)
        return await whole_task(self._desk, task)

    async def _owner(
        self, text: str, project_id: ProjectId, field: str
    ) -> tuple[PrincipalId | None, tuple[FieldViolation, ...]]:
        owner, wrong = await tasks.new_owner(self._desk.house, self._desk.caller(), text, project_id)
        return owner, tuple(replace(each, field=field) for each in wrong)

    async def _whole(self, template: Template, spec: RunSpec | None = None) -> template_pb2.Template:
        """With its spec; `spec`: one that is not stored."""
        known = spec or await self._desk.read(partial(self._desk.house.spec, sha256=template.spec_sha256))
        return template_message(template, known)
