"""RunService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from banksman.v1 import artifact_pb2, run_pb2, run_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.api.artifacts import ARTIFACT, download
from control_plane.api.convert import OPTIONS, RUN_EVENT, SPEC, decode_run_state, decoded, variables_of
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.mapping import BadFields, decode_each, instant, seconds, within
from control_plane.api.pages import list_filter, page_answer, page_request
from control_plane.api.template_records import TEMPLATE_USE
from control_plane.api.watching import LONGEST_WAIT_S
from control_plane.auth.visibility import tasks_of
from control_plane.domain.errors import FieldViolation, invalid_fields
from control_plane.domain.filter_fields import RUN_FIELDS
from control_plane.domain.filters import parse_filter
from control_plane.domain.ids import TaskId
from control_plane.domain.principal import Caller
from control_plane.domain.stops import CancelOrder
from control_plane.lifecycle import cancellations, purges, retention, runs
from control_plane.lifecycle.cancellations import ManyToCancel
from control_plane.lifecycle.sources import TemplateUse
from control_plane.storage import reads
from control_plane.storage.reads import EventFilter, RunFilter

# Of many cancelled runs so many are named.
MOST_NAMED = 100


class RunServicer(run_pb2_grpc.RunServiceServicer):
    """Runs and their attempts."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateRun(self, request: run_pb2.CreateRunRequest, context: Context) -> run_pb2.Run:
        project = await self._desk.project(request.project)
        options = decoded(OPTIONS, request.options, "options")
        spec = decoded(SPEC, request.spec, "spec") if request.HasField("spec") else None
        task_id = await self._task_id(request.project, request.task) if request.HasField("task") else None
        template = await self._template(request) if request.HasField("template") else None
        new = runs.NewRun(project_id=project.id, task_id=task_id, template=template, spec=spec, options=options)
        run = await runs.create(self._desk.house, self._desk.caller(request.request_id), new)
        return await self._desk.views.created(run, spec)

    async def GetRun(self, request: run_pb2.GetRunRequest, context: Context) -> run_pb2.Run:
        return await self._desk.views.whole(await self._desk.run(request.project, request.run))

    async def ListRuns(self, request: run_pb2.ListRunsRequest, context: Context) -> run_pb2.ListRunsResponse:
        project = await self._desk.project(request.project)
        task_id = await self._task_id(request.project, request.task) if request.task else None
        wanted = replace(_run_filter(request, task_id), visible_to=tasks_of(self._desk.caller()))
        query = partial(reads.list_runs, project_id=project.id, wanted=wanted, request=page_request(request))
        return page_answer(run_pb2.ListRunsResponse, "runs", await self._desk.read(query), self._desk.views.brief)

    async def CancelRun(self, request: run_pb2.CancelRunRequest, context: Context) -> run_pb2.Run:
        find = await self._desk.finding_run(request.project, request.run)
        grace_s = seconds(request.grace) if request.HasField("grace") else None
        order = CancelOrder(note=request.note, signal=request.signal, grace_s=grace_s)
        run = await runs.cancel(self._desk.house, self._desk.caller(), find, order, force=request.force)
        return await self._desk.views.whole(run)

    async def CancelRuns(self, request: run_pb2.CancelRunsRequest, context: Context) -> run_pb2.CancelRunsResponse:
        project, caller = await self._desk.project(request.project), self._desk.caller()
        asked = _many(request, caller)
        found = await cancellations.cancel_many(self._desk.house, caller, project.id, asked)
        return run_pb2.CancelRunsResponse(
            matched_count=len(found.run_ids), cancelled_count=found.count, run_ids=found.run_ids[:MOST_NAMED]
        )

    async def DeleteRun(self, request: run_pb2.DeleteRunRequest, context: Context) -> Empty:
        run = await self._desk.run(request.project, request.run, own=True)
        await purges.delete_run(self._desk.house, self._desk.caller(), run.id)
        return Empty()

    async def PinRun(self, request: run_pb2.PinRunRequest, context: Context) -> run_pb2.Run:
        return await self._pin(request, pinned=True)

    async def UnpinRun(self, request: run_pb2.UnpinRunRequest, context: Context) -> run_pb2.Run:
        return await self._pin(request, pinned=False)

    async def RetryRun(self, request: run_pb2.RetryRunRequest, context: Context) -> run_pb2.Run:
        run = await self._desk.run(request.project, request.run)
        caller = self._desk.caller(request.request_id)
        given, newest = variables_of(request), request.use_newest_spec
        run = await runs.retry(self._desk.house, caller, run.id, use_newest_spec=newest, variables=given)
        return await self._desk.views.whole(run)

    async def WaitRun(self, request: run_pb2.WaitRunRequest, context: Context) -> run_pb2.Run:
        settled, timeout_s = _wait(request)
        run = await self._desk.run(request.project, request.run)
        await self._desk.watching.wait(run.id, settled=settled, timeout_s=timeout_s)
        return await self._desk.views.whole(run)

    async def WatchRuns(
        self, request: run_pb2.WatchRunsRequest, context: Context
    ) -> AsyncIterator[run_pb2.WatchRunsResponse]:
        wanted = await self._event_filter(request)
        async for change in self._desk.watching.follow(wanted, request.resume_token, self._desk.caller()):
            yield change

    async def ListRunEvents(
        self, request: run_pb2.ListRunEventsRequest, context: Context
    ) -> run_pb2.ListRunEventsResponse:
        run = await self._desk.run(request.project, request.run)
        query = partial(reads.list_events, run_id=run.id, request=page_request(request))
        return page_answer(run_pb2.ListRunEventsResponse, "events", await self._desk.read(query), RUN_EVENT.encode)

    async def _pin(self, request: run_pb2.PinRunRequest | run_pb2.UnpinRunRequest, *, pinned: bool) -> run_pb2.Run:
        run = await self._desk.run(request.project, request.run, own=True)
        run = await retention.pin(self._desk.house, self._desk.caller(), run.id, pinned=pinned)
        return await self._desk.views.whole(run)

    async def ListArtifacts(
        self, request: artifact_pb2.ListArtifactsRequest, context: Context
    ) -> artifact_pb2.ListArtifactsResponse:
        run = await self._desk.run(request.project, request.run)
        query = partial(reads.list_artifacts, run_id=run.id, request=page_request(request))
        return page_answer(
            artifact_pb2.ListArtifactsResponse, "artifacts", await self._desk.read(query), ARTIFACT.encode
        )

    async def DownloadArtifact(
        self, request: artifact_pb2.DownloadArtifactRequest, context: Context
    ) -> AsyncIterator[artifact_pb2.DownloadArtifactResponse]:
        run = await self._desk.run(request.project, request.run)
        query = partial(reads.find_artifact, run_id=run.id, text=request.artifact)
        found = await self._desk.read(query)
        async with aclosing(download(self._desk.intake, found, request.offset)) as items:
            async for item in items:
                yield item

    async def _task_id(self, project: str, text: str) -> TaskId:
        return (await self._desk.task(project, text, show_deleted=True)).id

    async def _template(self, request: run_pb2.CreateRunRequest) -> TemplateUse:
        asked = decoded(TEMPLATE_USE, request.template, "template")
        template = await self._desk.template(request.project, asked.template)
        return TemplateUse(template_id=template.id, version=asked.version, parameters=dict(asked.parameters))

    async def _event_filter(self, request: run_pb2.WatchRunsRequest) -> EventFilter:
        matching = parse_filter(request.filter, RUN_FIELDS)
        if request.run:
            run = await self._desk.run(request.project, request.run)
            return EventFilter(project_id=run.project_id, run_id=run.id, matching=matching)
        project = await self._desk.project(request.project)
        task_id = await self._task_id(request.project, request.task) if request.task else None
        return EventFilter(project_id=project.id, task_id=task_id, matching=matching)


def _run_filter(request: run_pb2.ListRunsRequest, task_id: TaskId | None) -> RunFilter:
    """Raises InvalidArgument naming every bad field of the filter."""
    bad: list[FieldViolation] = []
    states, created_after = (), None
    try:
        states = decode_each(request.states, decode_run_state)
    except BadFields as error:
        bad += [within("states", violation) for violation in error.violations]
    try:
        created_after = instant(request.created_after) if request.HasField("created_after") else None
    except BadFields as error:
        bad += [within("created_after", violation) for violation in error.violations]
    matching = list_filter(request, RUN_FIELDS, bad)
    return RunFilter(states=states, task_id=task_id, created_after=created_after, matching=matching)


def _many(request: run_pb2.CancelRunsRequest, caller: Caller) -> ManyToCancel:
    grace_s = seconds(request.grace) if request.HasField("grace") else None
    return ManyToCancel(
        matching=parse_filter(request.filter, RUN_FIELDS),
        order=CancelOrder(note=request.note, signal=request.signal, grace_s=grace_s),
        visible_to=tasks_of(caller),
        dry_run=request.dry_run,
        expected_count=request.expected_count if request.HasField("expected_count") else None,
        force=request.force,
    )


def _wait(request: run_pb2.WaitRunRequest) -> tuple[bool, float]:
    """Whether to wait for the settled run, and how long. Raises InvalidArgument."""
    timeout_s = seconds(request.timeout) if request.HasField("timeout") else LONGEST_WAIT_S
    bad = []
    if timeout_s < 0:
        bad.append(FieldViolation(field="timeout", description="it must not be negative"))
    if request.wait_for not in run_pb2.WaitFor.values():
        bad.append(FieldViolation(field="wait_for", description=f"has the unknown value {request.wait_for}"))
    if bad:
        raise invalid_fields(*bad)
    return request.wait_for == run_pb2.WAIT_FOR_SETTLED, min(timeout_s, LONGEST_WAIT_S)
