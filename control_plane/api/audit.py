"""AuditService: the trail as a list, as a chain, and as a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from banksman.v1 import audit_pb2, audit_pb2_grpc

from control_plane.api.convert import decoded
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Context
from control_plane.api.mapping import Plan
from control_plane.api.pages import list_filter, page_answer, page_request
from control_plane.domain.audit import AuditEvent, AuditFault, AuditHead, as_data, head_data, line_of
from control_plane.domain.filter_fields import AUDIT_FIELDS
from control_plane.storage import reads

EVENT = Plan(AuditEvent, audit_pb2.AuditEvent)
HEAD = Plan(AuditHead, audit_pb2.AuditHead)
FAULT = Plan(AuditFault, audit_pb2.AuditFault)


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Who did what."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ListAuditEvents(
        self, request: audit_pb2.ListAuditEventsRequest, context: Context
    ) -> audit_pb2.ListAuditEventsResponse:
        matching = list_filter(request, AUDIT_FIELDS)
        chain = self._desk.chain.name
        query = partial(reads.list_audit, chain=chain, request=page_request(request), matching=matching)
        page = await self._desk.read(query)
        return page_answer(audit_pb2.ListAuditEventsResponse, "events", page, EVENT.encode)

    async def VerifyAudit(
        self, request: audit_pb2.VerifyAuditRequest, context: Context
    ) -> audit_pb2.VerifyAuditResponse:
        found = await self._desk.chain.look(decoded(HEAD, request.head, "head") if request.HasField("head") else None)
        return audit_pb2.VerifyAuditResponse(
            intact=not found.faults,
            checked=found.checked,
            faults=[FAULT.encode(fault) for fault in found.faults],
            head=HEAD.encode(found.head),
        )

    async def ExportAudit(
        self, request: audit_pb2.ExportAuditRequest, context: Context
    ) -> AsyncIterator[audit_pb2.ExportAuditResponse]:
        chain, after = self._desk.chain, request.after_seq
        before = await chain.hash_at(after)
        head = await chain.sign()
        start = {"kind": "start", "chain": chain.name, "seq": after, "hash": before}
        yield _lines([start])
        async for events in chain.events(after=after, to=head.seq):
            yield _lines([{"kind": "event", **as_data(event), "hash": event.hash} for event in events])
        yield _lines([{"kind": "head", **head_data(head)}])


def _lines(items: list[dict[str, object]]) -> audit_pb2.ExportAuditResponse:
    return audit_pb2.ExportAuditResponse(lines="".join(f"{line_of(item)}\n" for item in items).encode())
