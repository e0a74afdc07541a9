"""Reads of the audit trail."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, select

from control_plane.domain.audit import BEGINNING, AuditEvent, AuditHead
from control_plane.domain.filters import EVERYTHING, Filter
from control_plane.domain.pages import Page
from control_plane.storage.filters import AUDIT_LEAVES, condition
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.prepared import Prepared
from control_plane.storage.shapes import AUDIT_EVENT, AUDIT_HEAD
from control_plane.storage.tables import AUDIT_EVENTS, AUDIT_HEADS

_E: Final = AUDIT_EVENTS.c
_LAST: Final = Prepared(select(_E.seq, _E.hash).where(_E.chain == bindparam("chain")).order_by(_E.seq.desc()).limit(1))
_EVENTS: Final = select(*AUDIT_EVENT.columns)
_HEADS: Final = select(*AUDIT_HEAD.columns)


def audit_end(connection: Connection, chain: str) -> tuple[int, str]:
    """Number and hash of the chain's last entry; (0, "") for an empty chain."""
    row = _LAST.one(connection, {"chain": chain})
    return (0, BEGINNING) if row is None else (int(row[0]), str(row[1]))


def audit_event(connection: Connection, chain: str, seq: int) -> AuditEvent | None:
    row = connection.execute(_EVENTS.where(_E.chain == chain, _E.seq == seq)).first()
    return None if row is None else AUDIT_EVENT.entity(row)


def audit_after(connection: Connection, chain: str, seq: int, limit: int) -> tuple[AuditEvent, ...]:
    """The entries behind `seq`, in their order."""
    query = _EVENTS.where(_E.chain == chain, _E.seq > seq).order_by(_E.seq).limit(limit)
    return tuple([AUDIT_EVENT.entity(row) for row in connection.execute(query)])


def audit_heads(connection: Connection, chain: str, after: int, limit: int) -> tuple[AuditHead, ...]:
    """The signed heads behind `after`, in their order."""
    query = _HEADS.where(AUDIT_HEADS.c.chain == chain, AUDIT_HEADS.c.seq > after).order_by(AUDIT_HEADS.c.seq)
    return tuple([AUDIT_HEAD.entity(row) for row in connection.execute(query.limit(limit))])


def newest_audit_head(connection: Connection, chain: str) -> AuditHead | None:
    query = _HEADS.where(AUDIT_HEADS.c.chain == chain).order_by(AUDIT_HEADS.c.seq.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else AUDIT_HEAD.entity(row)


def list_audit(
    connection: Connection, chain: str, request: PageRequest, matching: Filter = EVERYTHING
) -> Page[AuditEvent]:
    """Newest first."""
    query = _EVENTS.where(_E.chain == chain)
    if matching != EVERYTHING:
        query = query.where(condition(matching, AUDIT_LEAVES))
    return fetch_page(
        connection,
        query=query,
        key=_E.seq,
        key_of=lambda event: event.seq,
        build=AUDIT_EVENT.entity,
        request=request,
        scope=("audit", chain, repr(matching)),
        newest_first=True,
    )
