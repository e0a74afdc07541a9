"""Writes of notifications and reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select

from control_plane.domain.notification import Delivery
from control_plane.domain.report import Report
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import to_us
from control_plane.storage.shapes import DELIVERY, REPORT
from control_plane.storage.tables import DELIVERIES, REPORTS
from control_plane.storage.writes.changes import compare_and_set

_INSERT: Final = Prepared(insert(DELIVERIES).values({each.name: bindparam(each.name) for each in DELIVERIES.c}))


def insert_deliveries(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    """In the transaction of what they tell."""
    for each in deliveries:
        _INSERT.run(connection, DELIVERY.values(each))


def save_delivery(connection: Connection, old: Delivery, new: Delivery) -> bool:
    """Writes what differs while nobody else has moved it."""
    guards = {"id": old.id, "state": str(old.state), "attempts": old.attempts}
    return compare_and_set(connection, DELIVERIES, DELIVERY.changes(old, new), guards)


def delete_deliveries(connection: Connection, *, before: datetime, limit: int) -> int:
    """Deletes those that were made before `before` and are over."""
    old = select(DELIVERIES.c.id).where(DELIVERIES.c.created_at < to_us(before), DELIVERIES.c.next_attempt_at.is_(None))
    ids = [row[0] for row in connection.execute(old.limit(limit))]
    if ids:
        connection.execute(delete(DELIVERIES).where(DELIVERIES.c.id.in_(ids)))
    return len(ids)


def insert_report(connection: Connection, report: Report, body: bytes) -> None:
    connection.execute(insert(REPORTS), REPORT.values(report, body=body))
