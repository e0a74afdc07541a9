"""ReportService."""

from __future__ import annotations

from functools import partial

from banksman.v1 import report_pb2, report_pb2_grpc, task_pb2

from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.mapping import BadFields, Plan, enum_turns, within
from control_plane.domain.errors import ErrorCode, NotFound, invalid_fields
from control_plane.domain.report import MEDIA_TYPES, Report, chosen
from control_plane.domain.task import ReportFormat
from control_plane.storage import reads

REPORT = Plan(Report, report_pb2.Report, stored=True)
_, _format = enum_turns(ReportFormat, task_pb2.ReportFormat.DESCRIPTOR)


class ReportServicer(report_pb2_grpc.ReportServiceServicer):
    """Reports of runs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetReport(self, request: report_pb2.GetReportRequest, context: Context) -> report_pb2.GetReportResponse:
        wanted = _decoded(request.format)
        run = await self._desk.run(request.project, request.run)
        found = chosen(await self._desk.read(partial(reads.reports_of_run, run_id=run.id)), wanted)
        body = None if found is None else await self._desk.read(partial(reads.report_body, report_id=found.id))
        if found is None or body is None:
            raise NotFound(ErrorCode.REPORT_NOT_FOUND)
        media_type = MEDIA_TYPES[found.format]
        return report_pb2.GetReportResponse(report=REPORT.encode(found), body=body, media_type=media_type)

    async def ListReports(
        self, request: report_pb2.ListReportsRequest, context: Context
    ) -> report_pb2.ListReportsResponse:
        run = await self._desk.run(request.project, request.run)
        found = await self._desk.read(partial(reads.reports_of_run, run_id=run.id))
        return report_pb2.ListReportsResponse(reports=[REPORT.encode(each) for each in found])


def _decoded(number: int) -> ReportFormat | None:
    """None for unspecified. Raises InvalidArgument."""
    try:
        found = _format(number)
    except BadFields as bad:
        raise invalid_fields(*(within("format", each) for each in bad.violations)) from bad
    return found if isinstance(found, ReportFormat) else None
