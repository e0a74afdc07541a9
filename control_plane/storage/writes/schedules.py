"""Writes of schedules and their firings."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, not_, or_, select, update

from control_plane.domain.ids import PrincipalId, RunId, ScheduleId, TaskId
from control_plane.domain.schedule import FiringOrigin, Schedule
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import to_us
from control_plane.storage.shapes import SCHEDULE
from control_plane.storage.tables import FIRINGS, RUN_TURNS, SCHEDULES
from control_plane.storage.writes.changes import compare_and_set

# Very many schedules may be due at the same moment.
_TAKEN = Prepared(
    select(FIRINGS.c.created_at)
    .where(
        FIRINGS.c.schedule_id == bindparam("schedule_id"),
        FIRINGS.c.scheduled_time == bindparam("scheduled_time"),
        or_(FIRINGS.c.origin == bindparam("origin"), FIRINGS.c.missed == 0),
    )
    .limit(1)
)
_INSERT_FIRING = Prepared(insert(FIRINGS))
_LINK_FIRING = Prepared(
    update(FIRINGS)
    .where(
        FIRINGS.c.schedule_id == bindparam("old_schedule_id"),
        FIRINGS.c.origin == bindparam("old_origin"),
        FIRINGS.c.scheduled_time == bindparam("old_scheduled_time"),
    )
    .values(run_id=bindparam("run_id"))
)


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
    """Takes one instant of a schedule; False if it was taken before: nothing fires twice, whatever the origin.

    `missed`: nothing fires, so many instants from this one on were passed over; they can be taken by another origin.
    """
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
    if _TAKEN.one(connection, row) is not None:
        return False
    _INSERT_FIRING.run(connection, row)
    return True


def link_firing(
    connection: Connection, schedule_id: ScheduleId, origin: FiringOrigin, scheduled_time: datetime, run_id: RunId
) -> None:
    """Says which run a firing made."""
    key = {
        "old_schedule_id": schedule_id,
        "old_origin": str(origin),
        "old_scheduled_time": to_us(scheduled_time),
    }
    _LINK_FIRING.run(connection, {**key, "run_id": run_id})


def insert_turn(connection: Connection, run_id: RunId) -> None:
    """The run waits until the other active runs of its schedule are over."""
    connection.execute(insert(RUN_TURNS), {"run_id": run_id})


def count_outcome(connection: Connection, schedule_id: ScheduleId, *, succeeded: bool) -> None:
    """One more run in a row that did not succeed, or none any more. Not a change by someone: the etag stays."""
    this = update(SCHEDULES).where(SCHEDULES.c.id == schedule_id)
    if succeeded:
        connection.execute(this.where(SCHEDULES.c.failures > 0).values(failures=0))
    else:
        connection.execute(this.values(failures=SCHEDULES.c.failures + 1))


def pause_failing(connection: Connection, schedule_id: ScheduleId, note: str, at: datetime) -> bool:
    """Pauses it if as many of its runs failed in a row as it allows; whether it did."""
    failing = (
        update(SCHEDULES)
        .where(
            SCHEDULES.c.id == schedule_id,
            not_(SCHEDULES.c.paused),
            SCHEDULES.c.pause_after_failures > 0,
            SCHEDULES.c.failures >= SCHEDULES.c.pause_after_failures,
        )
        .values(paused=True, pause_note=note, next_fire_at=None, updated_at=to_us(at))
    )
    return connection.execute(failing).rowcount == 1
