"""Reads of what is kept longer than it should be."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select, text

from control_plane.domain.ids import ProjectId
from control_plane.domain.project import Retention
from control_plane.storage.rows import reader_of, to_us
from control_plane.storage.tables import LOG_SEGMENTS, PROJECTS, RUNS
from control_plane.storage.tables.runs import OLD_RUN

_retention: Final = reader_of(Retention)


def retentions(connection: Connection) -> tuple[tuple[ProjectId, str, Retention], ...]:
    """Every project, its name, and how long it wants things to be kept."""
    query = select(PROJECTS.c.id, PROJECTS.c.name, PROJECTS.c.retention).order_by(PROJECTS.c.id)
    return tuple((ProjectId(row[0]), row[1], _retention(row[2])) for row in connection.execute(query))


def old_runs(project_id: ProjectId, before: datetime, limit: int) -> Select[Any]:
    """The ids of runs that settled before `before` and are not pinned, oldest first."""
    query = select(RUNS.c.id).where(text(OLD_RUN), RUNS.c.project_id == project_id, RUNS.c.settled_at < to_us(before))
    return query.order_by(RUNS.c.settled_at, RUNS.c.id).limit(limit)


def count_old_runs(connection: Connection, project_id: ProjectId, before: datetime, limit: int) -> int:
    """How many there are; at most `limit`."""
    return len(connection.execute(old_runs(project_id, before, limit)).all())


def log_bytes_by_project(connection: Connection) -> dict[ProjectId, int]:
    """Bytes that the stored logs of each project take."""
    query = select(LOG_SEGMENTS.c.project_id, func.sum(LOG_SEGMENTS.c.stored_bytes)).group_by(LOG_SEGMENTS.c.project_id)
    return {ProjectId(row[0]): int(row[1]) for row in connection.execute(query)}
