"""Reads of notifications and reports."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, bindparam, func, or_, select

from control_plane.domain.ids import DeliveryId, PrincipalId, ProjectId, ReportId, RunId, TaskId
from control_plane.domain.notification import Delivery, DeliveryState
from control_plane.domain.pages import Page
from control_plane.domain.report import Report
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import at_or_none, to_us
from control_plane.storage.shapes import DELIVERY, REPORT
from control_plane.storage.tables import DELIVERIES, REPORTS, RUNS, TASKS

_DELIVERIES: Final = select(*DELIVERY.columns)
_DELIVERY: Final = Prepared(_DELIVERIES.where(DELIVERIES.c.id == bindparam("id")))
_WAITING: Final = DELIVERIES.c.next_attempt_at.is_not(None)
_REPORTS: Final = select(*REPORT.columns)


def delivery(connection: Connection, delivery_id: DeliveryId) -> Delivery | None:
    row = _DELIVERY.one(connection, {"id": delivery_id})
    return None if row is None else DELIVERY.entity(row)


def due_deliveries(
    connection: Connection,
    now: datetime,
    *,
    limit: int,
    besides: Collection[DeliveryId] = (),
    besides_targets: Collection[str] = (),
) -> tuple[Delivery, ...]:
    """Those whose next attempt is due, longest due first, but for some and those for some targets."""
    query = _DELIVERIES.where(_WAITING, DELIVERIES.c.next_attempt_at <= to_us(now))
    if besides:
        query = query.where(DELIVERIES.c.id.not_in(sorted(besides)))
    if besides_targets:
        query = query.where(DELIVERIES.c.target.not_in(sorted(besides_targets)))
    query = query.order_by(DELIVERIES.c.next_attempt_at, DELIVERIES.c.id).limit(limit)
    return tuple([DELIVERY.entity(row) for row in connection.execute(query)])


def next_delivery_at(connection: Connection, after: datetime) -> datetime | None:
    """When the first one is due that is not due at `after`."""
    query = select(func.min(DELIVERIES.c.next_attempt_at)).where(_WAITING, DELIVERIES.c.next_attempt_at > to_us(after))
    return at_or_none(connection.execute(query).scalar())


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries a list shows. `owner`: only of that principal's tasks, and of its runs of templates."""

    run_id: RunId | None = None
    task_id: TaskId | None = None
    state: DeliveryState | None = None
    owner: PrincipalId | None = None


def list_deliveries(
    connection: Connection, project_id: ProjectId, request: PageRequest, wanted: DeliveryFilter
) -> Page[Delivery]:
    """Newest first."""
    query = _DELIVERIES.where(DELIVERIES.c.project_id == project_id)
    if wanted.run_id is not None:
        query = query.where(DELIVERIES.c.run_id == wanted.run_id)
    if wanted.task_id is not None:
        query = query.where(DELIVERIES.c.task_id == wanted.task_id)
    if wanted.state is not None:
        query = query.where(DELIVERIES.c.state == str(wanted.state))
    if wanted.owner is not None:
        own = select(TASKS.c.id).where(TASKS.c.project_id == project_id, TASKS.c.owner == wanted.owner)
        untasked = and_(DELIVERIES.c.task_id == "", DELIVERIES.c.created_by == wanted.owner)
        query = query.where(or_(DELIVERIES.c.task_id.in_(own), untasked))
    return fetch_page(
        connection,
        query=query,
        key=DELIVERIES.c.id,
        key_of=lambda item: item.id,
        build=DELIVERY.entity,
        request=request,
        scope=("deliveries", project_id, repr(wanted)),
        newest_first=True,
    )


def reports_due(connection: Connection, *, besides: frozenset[RunId], limit: int) -> tuple[RunId, ...]:
    """Runs that wait for their report, longest first."""
    query = select(RUNS.c.id).where(RUNS.c.report_due_at.is_not(None), RUNS.c.hidden_at.is_(None))
    query = query.order_by(RUNS.c.report_due_at, RUNS.c.id)
    rows = connection.execute(query.limit(limit + len(besides)))
    return tuple([RunId(row[0]) for row in rows if row[0] not in besides])[:limit]


def reports_of_run(connection: Connection, run_id: RunId) -> tuple[Report, ...]:
    query = _REPORTS.where(REPORTS.c.run_id == run_id).order_by(REPORTS.c.id)
    return tuple([REPORT.entity(row) for row in connection.execute(query)])


def report_body(connection: Connection, report_id: ReportId) -> bytes | None:
    body = connection.execute(select(REPORTS.c.body).where(REPORTS.c.id == report_id)).scalar()
    return None if body is None else bytes(body)
