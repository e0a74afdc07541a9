"""Deleted runs: hidden at once, emptied some rows at a time, kept as tombstones for a while."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Table, delete, func, select, tuple_, update

from control_plane.domain.history import RunEventType
from control_plane.domain.ids import ProjectId, RunId, TaskId
from control_plane.storage.rows import to_us
from control_plane.storage.tables import (
    ARTIFACTS,
    ATTEMPTS,
    DELIVERIES,
    LOG_SEGMENTS,
    REPORTS,
    RUN_EVENTS,
    RUN_MARKS,
    RUN_PLACES,
    RUN_SECRETS,
    RUNS,
)
from control_plane.storage.writes.server import EVENTS_DELETED_TO, raise_setting

# Every table whose rows belong to one run and go with it, each with a column `run_id`; who refers to another before it.
# What a run has elsewhere (bytes of logs and artifacts) is removed before its rows are.
PURGED_TABLES: Final[tuple[Table, ...]] = (
    RUN_MARKS,
    RUN_PLACES,
    RUN_SECRETS,
    DELIVERIES,
    REPORTS,
    ARTIFACTS,
    LOG_SEGMENTS,
    ATTEMPTS,
    RUN_EVENTS,
)

# What a tombstone does not keep of its run.
_EMPTY: Final = {
    "task_name": "",
    "error_message": "",
    "options": "{}",
    "cancel_note": "",
    "result_data": "",
    "result_error": "",
    "tags": "[]",
    "variables": None,
    "lane": "",
    "places": "[]",
    "progress": None,
    "due_at": None,
    "report_formats": "[]",
    "report_due_at": None,
}


def hide_run(connection: Connection, run_id: RunId, *, actor: str, at: datetime) -> int:
    """Nobody sees the run any more; how many there were (0 or 1)."""
    change = update(RUNS).where(RUNS.c.id == run_id, RUNS.c.hidden_at.is_(None))
    return connection.execute(change.values(hidden_at=to_us(at), hidden_by=actor)).rowcount


def hide_runs_of_task(connection: Connection, task_id: TaskId, *, actor: str, at: datetime) -> int:
    """Nobody sees the task's runs any more; how many there were."""
    change = update(RUNS).where(RUNS.c.task_id == task_id, RUNS.c.hidden_at.is_(None))
    return connection.execute(change.values(hidden_at=to_us(at), hidden_by=actor)).rowcount


def purge_rows(connection: Connection, run_ids: Sequence[RunId], limit: int) -> int:
    """Deletes at most `limit` rows of what belongs to these hidden runs; fewer than `limit`: nothing is left."""
    deleted = 0
    for table in PURGED_TABLES:
        if deleted >= limit:
            break
        key = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(table.c.run_id.in_(run_ids))
        if table is RUN_EVENTS:
            some = some.where(RUN_EVENTS.c.type != str(RunEventType.DELETED))
        deleted += connection.execute(delete(table).where(key.in_(some.limit(limit - deleted)))).rowcount
    return deleted


def bury_runs(connection: Connection, run_ids: Sequence[RunId], *, spec_sha256: str, at: datetime) -> None:
    """Empties the rows of hidden runs: what stays says that there was such a run, and under which fence."""
    change = update(RUNS).where(RUNS.c.id.in_(run_ids), RUNS.c.hidden_at.is_not(None))
    connection.execute(change.values(**_EMPTY, spec_sha256=spec_sha256, purged_at=to_us(at)))


def delete_tombstones(connection: Connection, *, before: datetime, limit: int, now: datetime) -> int:
    """Deletes what stayed of runs that were purged before `before`."""
    found = select(RUNS.c.id).where(RUNS.c.purged_at < to_us(before)).order_by(RUNS.c.purged_at).limit(limit)
    return _delete(connection, [RunId(row[0]) for row in connection.execute(found)], now)


def delete_tombstones_of_project(connection: Connection, project_id: ProjectId, now: datetime) -> None:
    """The project goes, and with it what stayed of its deleted runs."""
    found = select(RUNS.c.id).where(RUNS.c.project_id == project_id, RUNS.c.purged_at.is_not(None))
    _delete(connection, [RunId(row[0]) for row in connection.execute(found)], now)


def _delete(connection: Connection, ids: Sequence[RunId], now: datetime) -> int:
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        newest = select(func.max(RUN_EVENTS.c.number)).where(RUN_EVENTS.c.run_id.in_(some))
        raise_setting(connection, EVENTS_DELETED_TO, connection.execute(newest).scalar() or 0, now)
        connection.execute(delete(RUNS).where(RUNS.c.id.in_(some)))
    return len(ids)
