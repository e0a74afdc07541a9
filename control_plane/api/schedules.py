"""ScheduleService."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import islice
from zoneinfo import ZoneInfo

from banksman.v1 import run_pb2, schedule_pb2, schedule_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.api.convert import decoded
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.masks import wanted_fields
from control_plane.api.pages import page_answer, page_request
from control_plane.api.records import BACKFILL, FIRING, SCHEDULE, SCHEDULE_DRAFT, AskedSchedule
from control_plane.auth.visibility import tasks_of
from control_plane.domain.errors import FieldViolation, invalid_fields
from control_plane.domain.schedule import PREVIEW_DEFAULT, PREVIEW_LARGEST, Schedule, Timed, coming, preview
from control_plane.domain.schedule_rules import validate_policies, validate_when
from control_plane.lifecycle import backfills, schedules
from control_plane.storage import reads

_PLAIN = {
    **{name: name for name in ("name", "time_zone", "overlap", "catch_up", "max_catch_up")},
    "jitter": "jitter_s",
    "pause_after_failures": "pause_after_failures",
    "variables": "variables",
}
WINDOW = frozenset({"start_at", "end_at"})
WHEN = frozenset({"cron", "every", "once"})
WRITABLE = (*_PLAIN, *sorted(WHEN), *sorted(WINDOW))


class ScheduleServicer(schedule_pb2_grpc.ScheduleServiceServicer):
    """When a task runs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateSchedule(
        self, request: schedule_pb2.CreateScheduleRequest, context: Context
    ) -> schedule_pb2.Schedule:
        project = await self._desk.project(request.project)
        draft = decoded(SCHEDULE_DRAFT, request.schedule, "schedule").draft()
        if draft.task:
            draft = replace(draft, task=(await self._desk.task(request.project, draft.task)).id)
        caller, only = self._desk.caller(request.request_id), request.validate_only
        made = await schedules.create(self._desk.house, caller, project.id, draft, validate_only=only)
        return SCHEDULE.encode(made)

    async def GetSchedule(self, request: schedule_pb2.GetScheduleRequest, context: Context) -> schedule_pb2.Schedule:
        return SCHEDULE.encode(await self._find(request.project, request.schedule))

    async def ListSchedules(
        self, request: schedule_pb2.ListSchedulesRequest, context: Context
    ) -> schedule_pb2.ListSchedulesResponse:
        project = await self._desk.project(request.project)
        task_id = (await self._desk.task(request.project, request.task)).id if request.task else None
        query = partial(
            reads.list_schedules,
            project_id=project.id,
            request=page_request(request),
            task_id=task_id,
            visible_to=tasks_of(self._desk.caller()),
        )
        page = await self._desk.read(query)
        return page_answer(schedule_pb2.ListSchedulesResponse, "schedules", page, SCHEDULE.encode)

    async def UpdateSchedule(
        self, request: schedule_pb2.UpdateScheduleRequest, context: Context
    ) -> schedule_pb2.Schedule:
        change = _change(request)
        schedule = await self._own(request.project, request.schedule.id or request.schedule.name)
        only = request.validate_only
        return SCHEDULE.encode(await schedules.update(self._desk.house, schedule.id, change, validate_only=only))

    async def DeleteSchedule(self, request: schedule_pb2.DeleteScheduleRequest, context: Context) -> Empty:
        schedule = await self._own(request.project, request.schedule)
        await schedules.delete(self._desk.house, schedule.id, request.etag)
        return Empty()

    async def PauseSchedule(
        self, request: schedule_pb2.PauseScheduleRequest, context: Context
    ) -> schedule_pb2.Schedule:
        schedule = await self._own(request.project, request.schedule)
        return SCHEDULE.encode(await schedules.pause(self._desk.house, schedule.id, request.note))

    async def ResumeSchedule(
        self, request: schedule_pb2.ResumeScheduleRequest, context: Context
    ) -> schedule_pb2.Schedule:
        schedule = await self._own(request.project, request.schedule)
        return SCHEDULE.encode(await schedules.resume(self._desk.house, schedule.id))

    async def TriggerSchedule(self, request: schedule_pb2.TriggerScheduleRequest, context: Context) -> run_pb2.Run:
        schedule = await self._find(request.project, request.schedule)
        run = await schedules.trigger(self._desk.house, self._desk.caller(request.request_id), schedule.id)
        return await self._desk.views.whole(run)

    async def PreviewSchedule(
        self, request: schedule_pb2.PreviewScheduleRequest, context: Context
    ) -> schedule_pb2.PreviewScheduleResponse:
        count, now = _count(request), self._desk.house.clock.now()
        if request.HasField("schedule"):
            stored = await self._find(request.project, request.schedule)
            return _preview(stored, islice(coming(stored, now), count))
        draft = decoded(SCHEDULE_DRAFT, request.draft, "draft").draft()
        if violations := (*validate_when(draft, now=now, prefix="draft"), *validate_policies(draft, "draft")):
            raise invalid_fields(*violations)
        return _preview(draft, preview(draft, anchor=draft.start_at or now, after=now, count=count))

    async def BackfillSchedule(
        self, request: schedule_pb2.BackfillScheduleRequest, context: Context
    ) -> schedule_pb2.BackfillScheduleResponse:
        asked = decoded(BACKFILL, request, "")
        schedule = await self._own(request.project, request.schedule)
        done = await backfills.backfill(self._desk.house, self._desk.caller(), schedule.id, asked)
        answer = schedule_pb2.BackfillScheduleResponse(run_ids=done.run_ids, fired_before=done.fired_before)
        for at in done.times:
            answer.scheduled_times.add().FromDatetime(at)
        return answer

    async def ListFirings(
        self, request: schedule_pb2.ListFiringsRequest, context: Context
    ) -> schedule_pb2.ListFiringsResponse:
        schedule = await self._find(request.project, request.schedule)
        query = partial(reads.list_firings, schedule_id=schedule.id, request=page_request(request))
        page = await self._desk.read(query)
        return page_answer(schedule_pb2.ListFiringsResponse, "firings", page, FIRING.encode)

    async def _find(self, project: str, text: str) -> Schedule:
        return await self._desk.schedule(project, text)

    async def _own(self, project: str, text: str) -> Schedule:
        return await self._desk.schedule(project, text, own=True)


def _preview(timed: Timed, times: Iterable[datetime]) -> schedule_pb2.PreviewScheduleResponse:
    answer = schedule_pb2.PreviewScheduleResponse(time_zone=timed.time_zone)
    zone = ZoneInfo(timed.time_zone)
    for at in times:
        answer.fire_times.add().FromDatetime(at)
        answer.local_times.append(at.astimezone(zone).isoformat())
    return answer


def _count(request: schedule_pb2.PreviewScheduleRequest) -> int:
    count = request.count or PREVIEW_DEFAULT
    if not 1 <= count <= PREVIEW_LARGEST:
        raise invalid_fields(FieldViolation(field="count", description=f"must be 1 to {PREVIEW_LARGEST}"))
    return count


def _change(request: schedule_pb2.UpdateScheduleRequest) -> schedules.ScheduleChange:
    """Raises InvalidArgument naming every field that has no meaning."""
    wanted = wanted_fields(request.update_mask.paths, WRITABLE)
    asked: AskedSchedule = decoded(SCHEDULE_DRAFT, request.schedule, "schedule")
    when = schedules.When(cron=asked.cron, every_s=asked.every_s, once=asked.once)
    said = {attribute: getattr(asked, attribute) for field, attribute in _PLAIN.items() if field in wanted}
    return schedules.ScheduleChange(
        **said,
        when=when if wanted & WHEN else None,
        window=schedules.Window(start_at=asked.start_at, end_at=asked.end_at) if wanted & WINDOW else None,
        window_fields=wanted & WINDOW,
        etag=request.schedule.etag,
    )
