"""Writes of schedules and their firings."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from control_plane.domain.ids import PrincipalId, RunId, ScheduleId, TaskId
from control_plane.domain.schedule import FiringOrigin, Schedule
from control_plane.storage.rows import to_us
from control_plane.storage.shapes import SCHEDULE
from control_plane.storage.tables import FIRINGS, SCHEDULES
from control_plane.storage.writes.changes import compare_and_set


def insert_schedule(connection: Connection, schedule: Schedule) -> None:
    connection.execute(insert(SCHEDULES), SCHEDULE.values(schedule))


def save_schedule(connection: Connection, old: Schedule, new: Schedule) -> bool:
    """Writes what differs while the etag is the old one's."""
    changes = SCHEDULE.changes(old, new)
    return compare_and_set(connection, SCHEDULES, changes, {"id": old.id, "etag": old.etag})


def delete_schedule(connection: Connection, schedule_id: ScheduleId) -> bool:
    return connection.execute(delete(SCHEDULES).where(SCHEDULES.c.id == schedule_id)).rowcount == 1


def delete_schedules_of_task(connection: Connection, task_id: TaskId) -> int:
    return connection.execute(delete(SCHEDULES).where(SCHEDULES.c.task_id == task_id)).rowcount


def insert_firing(
    connection: Connection,
    schedule: Schedule,
    *,
    origin: FiringOrigin,
    scheduled_time: datetime,
    created_by: PrincipalId,
    at: datetime,
    missed: int = 0,
) -> bool:
    """Takes one instant of a schedule; False if it was taken before: nothing fires twice.

    `missed`: nothing fires, so many instants from this one on were passed over.
    """
    key = _firing(schedule.id, origin, scheduled_time)
    if connection.execute(select(FIRINGS.c.created_at).where(key)).first() is not None:
        return False
    row = {
        "schedule_id": schedule.id,
        "origin": str(origin),
        "scheduled_time": to_us(scheduled_time),
        "project_id": schedule.project_id,
        "run_id": None,
        "missed": missed,
        "created_by": created_by,
        "created_at": to_us(at),
    }
    connection.execute(insert(FIRINGS), row)
    return True


def link_firing(
    connection: Connection, schedule_id: ScheduleId, origin: FiringOrigin, scheduled_time: datetime, run_id: RunId
) -> None:
    """Says which run a firing made."""
    key = _firing(schedule_id, origin, scheduled_time)
    connection.execute(update(FIRINGS).where(key).values(run_id=run_id))


def _firing(schedule_id: ScheduleId, origin: FiringOrigin, scheduled_time: datetime) -> ColumnElement[bool]:
    return and_(
        FIRINGS.c.schedule_id == schedule_id,
        FIRINGS.c.origin == str(origin),
        FIRINGS.c.scheduled_time == to_us(scheduled_time),
    )
