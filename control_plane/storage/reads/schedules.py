"""Reads of schedules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, or_, select, text

from control_plane.domain.ids import PrincipalId, ProjectId, RunId, ScheduleId, TaskId
from control_plane.domain.pages import Page
from control_plane.domain.schedule import FiringOrigin, Schedule
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.rows import AnyRow, from_us, to_us
from control_plane.storage.shapes import SCHEDULE
from control_plane.storage.tables import FIRINGS, SCHEDULES, TASKS
from control_plane.storage.tables.schedules import DUE_SCHEDULE

_SCHEDULES: Final = select(*SCHEDULE.columns, TASKS.c.name).join(TASKS, TASKS.c.id == SCHEDULES.c.task_id)


def schedule(connection: Connection, schedule_id: ScheduleId) -> Schedule | None:
    row = connection.execute(_SCHEDULES.where(SCHEDULES.c.id == schedule_id)).first()
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


def due_schedules(connection: Connection, before: datetime, limit: int) -> tuple[Schedule, ...]:
    """Schedules that fire no later than `before` and are not paused, earliest first."""
    query = (
        _SCHEDULES.where(text(DUE_SCHEDULE), SCHEDULES.c.next_fire_at <= to_us(before))
        .order_by(SCHEDULES.c.next_fire_at, SCHEDULES.c.id)
        .limit(limit)
    )
    return tuple(_schedule(row) for row in connection.execute(query))


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One instant of a schedule that was taken: by a run, or `missed` instants from it on were passed over."""

    origin: FiringOrigin
    scheduled_time: datetime
    run_id: RunId | None
    missed: int
    created_at: datetime


def firings(connection: Connection, schedule_id: ScheduleId, limit: int) -> tuple[Firing, ...]:
    """Newest first."""
    query = (
        select(FIRINGS)
        .where(FIRINGS.c.schedule_id == schedule_id)
        .order_by(FIRINGS.c.scheduled_time.desc())
        .limit(limit)
    )
    return tuple(
        Firing(
            origin=FiringOrigin(row.origin),
            scheduled_time=from_us(row.scheduled_time),
            run_id=row.run_id,
            missed=row.missed,
            created_at=from_us(row.created_at),
        )
        for row in connection.execute(query)
    )


def run_of_firing(
    connection: Connection, schedule_id: ScheduleId, origin: FiringOrigin, scheduled_time: datetime
) -> RunId | None:
    """The run that an instant made; None if it made none."""
    query = select(FIRINGS.c.run_id).where(
        FIRINGS.c.schedule_id == schedule_id,
        FIRINGS.c.origin == str(origin),
        FIRINGS.c.scheduled_time == to_us(scheduled_time),
    )
    run_id = connection.execute(query).scalar()
    return None if run_id is None else RunId(run_id)


def _schedule(row: AnyRow) -> Schedule:
    return SCHEDULE.entity(row, task_name=row[-1])
