"""Writes of the audit trail: it only grows."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, insert

from control_plane.domain.audit import AuditEvent, AuditHead
from control_plane.storage.prepared import Prepared
from control_plane.storage.shapes import AUDIT_EVENT, AUDIT_HEAD
from control_plane.storage.tables import AUDIT_EVENTS, AUDIT_HEADS

_APPEND: Final = Prepared(insert(AUDIT_EVENTS).values({each.name: bindparam(each.name) for each in AUDIT_EVENTS.c}))


def append_audit(connection: Connection, event: AuditEvent) -> None:
    """The next entry of its chain; the database refuses a number that is taken."""
    _APPEND.run(connection, AUDIT_EVENT.values(event))


def insert_audit_head(connection: Connection, head: AuditHead) -> None:
    connection.execute(insert(AUDIT_HEADS), AUDIT_HEAD.values(head))
