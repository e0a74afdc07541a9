"""LogService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from banksman.v1 import log_pb2, log_pb2_grpc

from control_plane.api.convert import LOG_RECORD, decode_log_kind
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.mapping import BadFields, Plan, decode_each, instant, within
from control_plane.domain.errors import invalid_fields
from control_plane.domain.ids import RunId
from control_plane.domain.log import LogRecord
from control_plane.domain.logs import LogBatch, LogEnd, LogItem, LogQuery, LogStart

START = Plan(LogStart, log_pb2.LogStart)
BATCH = Plan(LogBatch, log_pb2.LogBatch, nested={LogRecord: LOG_RECORD})
END = Plan(LogEnd, log_pb2.LogEnd)


class LogServicer(log_pb2_grpc.LogServiceServicer):
    """History and tail from the same offsets."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ReadLogs(
        self, request: log_pb2.ReadLogsRequest, context: Context
    ) -> AsyncIterator[log_pb2.ReadLogsResponse]:
        run = await self._desk.run(request.project, request.run)
        async with aclosing(self._desk.tail.follow(_query(request, run.id))) as items:
            async for item in items:
                yield _answer(item)


def _query(request: log_pb2.ReadLogsRequest, run_id: RunId) -> LogQuery:
    """Raises InvalidArgument naming the fields that have no meaning."""
    start = request.WhichOneof("start")
    try:
        kinds = decode_each(request.kinds, decode_log_kind)
    except BadFields as error:
        raise invalid_fields(*(within("kinds", violation) for violation in error.violations)) from error
    try:
        since = instant(request.since) if start == "since" else None
    except BadFields as error:
        raise invalid_fields(*(within("since", violation) for violation in error.violations)) from error
    return LogQuery(
        run_id=run_id,
        lease_epoch=request.lease_epoch,
        from_offset=request.from_offset if start == "from_offset" else None,
        tail_lines=request.tail_lines if start == "tail_lines" else None,
        since=since,
        follow=request.follow,
        kinds=frozenset(kinds),
        step=request.step if request.HasField("step") and request.step >= 0 else None,
    )


def _answer(item: LogItem) -> log_pb2.ReadLogsResponse:
    match item:
        case LogBatch():
            return log_pb2.ReadLogsResponse(batch=BATCH.encode(item))
        case LogStart():
            return log_pb2.ReadLogsResponse(begin=START.encode(item))
        case LogEnd():
            return log_pb2.ReadLogsResponse(end=END.encode(item))
