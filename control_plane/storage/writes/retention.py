"""Deletes what is old, some rows at a time, so that no transaction lasts long."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, exists, select, update

from control_plane.domain.ids import ProjectId, RunId
from control_plane.storage.reads.retention import old_runs
from control_plane.storage.rows import to_us
from control_plane.storage.tables import (
    FIRINGS,
    JOIN_TOKENS,
    REQUEST_IDS,
    RUNS,
    SCHEDULES,
    SPECS,
    TASKS,
    TEMPLATE_VERSIONS,
    TEMPLATES,
)


def hide_old_runs(connection: Connection, *, project_id: ProjectId, before: datetime, limit: int, at: datetime) -> int:
    """The project's oldest runs that settled before `before`, pinned ones left out, are seen no more; how many."""
    found = tuple(RunId(row[0]) for row in connection.execute(old_runs(project_id, before, limit)))
    if found:
        change = update(RUNS).where(RUNS.c.id.in_(found), RUNS.c.hidden_at.is_(None))
        connection.execute(change.values(hidden_at=to_us(at), hidden_by=""))
    return len(found)


def pin_run(connection: Connection, run_id: RunId, *, pinned: bool) -> None:
    """A pinned run is never removed by age."""
    connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(pinned=pinned))


def delete_unused_specs(connection: Connection, *, before: datetime, limit: int) -> int:
    """Deletes specs older than `before` that no task, no template and no run refers to."""
    unused = (
        select(SPECS.c.sha256)
        .where(
            SPECS.c.created_at < to_us(before),
            ~exists().where(RUNS.c.spec_sha256 == SPECS.c.sha256),
            ~exists().where(TASKS.c.spec_sha256 == SPECS.c.sha256),
            ~exists().where(TEMPLATES.c.spec_sha256 == SPECS.c.sha256),
            ~exists().where(TEMPLATE_VERSIONS.c.spec_sha256 == SPECS.c.sha256),
        )
        .limit(limit)
    )
    digests = [row[0] for row in connection.execute(unused)]
    if digests:
        connection.execute(delete(SPECS).where(SPECS.c.sha256.in_(digests)))
    return len(digests)


def delete_unused_tasks(connection: Connection, *, before: datetime, limit: int) -> int:
    """Deletes the rows of tasks that were deleted before `before` and have no run left."""
    unused = (
        select(TASKS.c.id)
        .where(
            TASKS.c.deleted_at < to_us(before),
            ~exists().where(RUNS.c.task_id == TASKS.c.id, RUNS.c.hidden_at.is_(None)),
        )
        .limit(limit)
    )
    ids = [row[0] for row in connection.execute(unused)]
    if ids:
        connection.execute(delete(SCHEDULES).where(SCHEDULES.c.task_id.in_(ids)))
        connection.execute(delete(TASKS).where(TASKS.c.id.in_(ids)))
    return len(ids)


def delete_request_ids(connection: Connection, *, before: datetime, limit: int) -> int:
    old = select(REQUEST_IDS.c.created_at).where(REQUEST_IDS.c.created_at < to_us(before))
    edge = connection.execute(old.order_by(REQUEST_IDS.c.created_at).offset(limit - 1).limit(1)).scalar()
    last = to_us(before) - 1 if edge is None else edge
    return connection.execute(delete(REQUEST_IDS).where(REQUEST_IDS.c.created_at <= last)).rowcount


def delete_join_tokens(connection: Connection, *, before: datetime, limit: int) -> int:
    """Deletes join tokens that expired before `before`, used or not."""
    old = select(JOIN_TOKENS.c.id).where(JOIN_TOKENS.c.expires_at < to_us(before)).limit(limit)
    ids = [row[0] for row in connection.execute(old)]
    if ids:
        connection.execute(delete(JOIN_TOKENS).where(JOIN_TOKENS.c.id.in_(ids)))
    return len(ids)


def delete_firings(connection: Connection, *, before: datetime, limit: int) -> int:
    """Deletes firings whose instant is long past: the schedule's next instant lies behind them.

    Their schedules remember up to where they do not know any more what has fired.
    """
    old = select(FIRINGS.c.schedule_id, FIRINGS.c.origin, FIRINGS.c.scheduled_time)
    keys = connection.execute(old.where(FIRINGS.c.created_at < to_us(before)).limit(limit)).all()
    for key in keys:
        condition = (FIRINGS.c.schedule_id == key[0]) & (FIRINGS.c.origin == key[1])
        connection.execute(delete(FIRINGS).where(condition & (FIRINGS.c.scheduled_time == key[2])))
    latest: dict[str, int] = {}
    for schedule_id, _, scheduled_time in keys:
        latest[schedule_id] = max(scheduled_time, latest.get(schedule_id, scheduled_time))
    for schedule_id, forgotten_to in latest.items():
        known = SCHEDULES.c.forgotten_to.is_(None) | (SCHEDULES.c.forgotten_to < forgotten_to)
        connection.execute(
            update(SCHEDULES).where(SCHEDULES.c.id == schedule_id, known).values(forgotten_to=forgotten_to)
        )
    return len(keys)
