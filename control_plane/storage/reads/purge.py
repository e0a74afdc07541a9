"""Reads of deleted runs: what is left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from control_plane.domain.ids import AttemptKey, RunId
from control_plane.storage.tables import ATTEMPTS, RUNS
from control_plane.storage.tables.runs import HIDDEN_RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLog:
    """A log whose bytes are still there; one that is not sealed may still grow."""

    key: AttemptKey
    sealed: bool


def hidden_runs(connection: Connection, *, besides: frozenset[RunId], limit: int) -> tuple[RunId, ...]:
    """Deleted runs whose rows are not emptied, oldest deletion first."""
    query = select(RUNS.c.id).where(text(HIDDEN_RUN)).order_by(RUNS.c.hidden_at, RUNS.c.id)
    rows = connection.execute(query.limit(limit + len(besides)))
    return tuple(RunId(row[0]) for row in rows if row[0] not in besides)[:limit]


def hidden_by(connection: Connection, run_ids: Sequence[RunId]) -> tuple[tuple[RunId, int, str], ...]:
    """(run, its epoch, who deleted it) of those that are hidden and not emptied."""
    query = select(RUNS.c.id, RUNS.c.lease_epoch, RUNS.c.hidden_by).where(text(HIDDEN_RUN), RUNS.c.id.in_(run_ids))
    return tuple((RunId(row[0]), row[1], row[2]) for row in connection.execute(query.order_by(RUNS.c.id)))


def logs_of_runs(connection: Connection, *, run_ids: Sequence[RunId]) -> tuple[StoredLog, ...]:
    """The logs of these runs that retention has not removed."""
    query = select(ATTEMPTS.c.run_id, ATTEMPTS.c.lease_epoch, ATTEMPTS.c.log_sealed_at).where(
        ATTEMPTS.c.run_id.in_(run_ids), ATTEMPTS.c.assigned_at.is_not(None), ATTEMPTS.c.log_deleted_at.is_(None)
    )
    return tuple(
        StoredLog(key=AttemptKey(run_id=RunId(row[0]), lease_epoch=row[1]), sealed=row[2] is not None)
        for row in connection.execute(query)
    )
