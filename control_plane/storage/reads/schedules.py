"""Reads of schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Connection, bindparam, cast, or_, select, text

from control_plane.domain.ids import PrincipalId, ProjectId, ScheduleId, TaskId
from control_plane.domain.pages import Page
from control_plane.domain.schedule import Schedule
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import AnyRow, from_us, to_us
from control_plane.storage.shapes import SCHEDULE
from control_plane.storage.tables import SCHEDULES, TASKS
from control_plane.storage.tables.schedules import DUE_SCHEDULE

_SCHEDULES: Final = select(*SCHEDULE.columns, TASKS.c.name).join(TASKS, TASKS.c.id == SCHEDULES.c.task_id)
_SCHEDULE: Final = Prepared(_SCHEDULES.where(SCHEDULES.c.id == bindparam("id")))
_DUE: Final = Prepared(
    select(SCHEDULES.c.id, SCHEDULES.c.next_fire_at)
    .where(text(DUE_SCHEDULE), SCHEDULES.c.next_fire_at <= bindparam("before"))
    .order_by(SCHEDULES.c.next_fire_at, SCHEDULES.c.id)
    .limit(bindparam("limit"))
)


def schedule(connection: Connection, schedule_id: ScheduleId) -> Schedule | None:
    row = _SCHEDULE.one(connection, {"id": schedule_id})
    return None if row is None else _schedule(row)


def find_schedule(connection: Connection, project_id: ProjectId, id_or_name: str) -> Schedule | None:
    """Not one that stands still because its task was deleted."""
    query = _SCHEDULES.where(
        SCHEDULES.c.project_id == project_id,
        or_(SCHEDULES.c.id == id_or_name, SCHEDULES.c.name == id_or_name),
        TASKS.c.deleted_at.is_(None),
    )
    row = connection.execute(query).first()
    return None if row is None else _schedule(row)


def schedules_of_task(connection: Connection, task_id: TaskId) -> tuple[Schedule, ...]:
    """Also of a deleted one; by name."""
    found = (_schedule(row) for row in connection.execute(_SCHEDULES.where(SCHEDULES.c.task_id == task_id)))
    return tuple(sorted(found, key=lambda schedule: schedule.name))


def stopped_schedule(connection: Connection, project_id: ProjectId, name: str) -> Schedule | None:
    """The one of this name that stands still because its task was deleted."""
    query = _SCHEDULES.where(
        SCHEDULES.c.project_id == project_id, SCHEDULES.c.name == name, TASKS.c.deleted_at.is_not(None)
    )
    row = connection.execute(query).first()
    return None if row is None else _schedule(row)


def list_schedules(
    connection: Connection,
    project_id: ProjectId,
    request: PageRequest,
    *,
    task_id: TaskId | None = None,
    visible_to: PrincipalId | None = None,
) -> Page[Schedule]:
    """By name. `visible_to` None: all, else those of that principal's own and of public tasks."""
    query = _SCHEDULES.where(SCHEDULES.c.project_id == project_id, TASKS.c.deleted_at.is_(None))
    if visible_to is not None:
        query = query.where(or_(TASKS.c.is_public, TASKS.c.owner == visible_to))
    if task_id is not None:
        query = query.where(SCHEDULES.c.task_id == task_id)
    return fetch_page(
        connection,
        query=query,
        key=SCHEDULES.c.name,
        key_of=lambda item: item.name,
        build=_schedule,
        request=request,
        scope=("schedules", project_id, task_id),
    )


def due_schedules(connection: Connection, before: datetime, limit: int) -> dict[ScheduleId, datetime]:
    """When the schedules fire that do so no later than `before` and are not paused; earliest first.

    Nothing else of them: there may be thousands, and they are read again and again.
    """
    found = _DUE.all(connection, {"before": to_us(before), "limit": limit})
    return {ScheduleId(schedule_id): from_us(due_us) for schedule_id, due_us in found}


def schedules_far_ahead(connection: Connection, now: datetime, limit: int) -> tuple[Schedule, ...]:
    """Intervals whose next instant is further away than one interval: the wall clock was set back since."""
    interval_us = cast((SCHEDULES.c.every_s + SCHEDULES.c.jitter_s + 1.0) * 1_000_000, BigInteger)
    query = _SCHEDULES.where(
        text(DUE_SCHEDULE),
        SCHEDULES.c.every_s.is_not(None),
        SCHEDULES.c.next_fire_at > to_us(now) + interval_us,
        or_(SCHEDULES.c.start_at.is_(None), SCHEDULES.c.start_at <= to_us(now)),
    )
    return tuple(_schedule(row) for row in connection.execute(query.order_by(SCHEDULES.c.id).limit(limit)))


def _schedule(row: AnyRow) -> Schedule:
    return SCHEDULE.entity(row, task_name=row[-1])
