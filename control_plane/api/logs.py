"""LogService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
from banksman.v1 import log_pb2

from control_plane.api.convert import decode_log_kind
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.log_answers import Answers
from control_plane.api.mapping import BadFields, decode_each, instant, within
from control_plane.domain.errors import invalid_fields
from control_plane.domain.ids import RunId
from control_plane.domain.logs import LogQuery


class LogServicer:
    """History and tail from the same offsets. It answers with bytes that are messages already."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._answers = Answers()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve LogService there."""
        read: grpc.RpcMethodHandler[log_pb2.ReadLogsRequest, bytes] = grpc.unary_stream_rpc_method_handler(
            self.ReadLogs, request_deserializer=log_pb2.ReadLogsRequest.FromString
        )
        service = log_pb2.DESCRIPTOR.services_by_name["LogService"].full_name
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ReadLogs": read}),))

    async def ReadLogs(self, request: log_pb2.ReadLogsRequest, context: Context) -> AsyncIterator[bytes]:
        run = await self._desk.run(request.project, request.run)
        async with aclosing(self._desk.tail.follow(_query(request, run.id))) as items:
            async for item in items:
                yield self._answers.serialized(item)


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
