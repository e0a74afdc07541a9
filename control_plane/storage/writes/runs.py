"""Writes of specs, runs, attempts and their history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select

from control_plane.domain.attempt import Attempt, AttemptState
from control_plane.domain.history import RunEventRecord
from control_plane.domain.ids import RunId
from control_plane.domain.run import Run
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import to_us
from control_plane.storage.shapes import ATTEMPT, RUN, RUN_EVENT
from control_plane.storage.tables import ATTEMPTS, RUN_EVENTS, RUN_MARKS, RUN_SECRETS, RUNS, SPEC_SECRETS, SPECS
from control_plane.storage.writes.changes import compare_and_set
from control_plane.storage.writes.marks import marks
from control_plane.storage.writes.places import insert_places, move_places

SHORT_ID_DIGITS: Final = 8

_SPEC_KNOWN = Prepared(select(SPECS.c.sha256).where(SPECS.c.sha256 == bindparam("sha256")))
_INSERT_SPEC = Prepared(insert(SPECS))
_INSERT_SPEC_SECRETS = insert(SPEC_SECRETS)
_INSERT_RUN = Prepared(
    insert(RUNS).values({column.name: bindparam(column.name) for column in (*RUN.columns, RUNS.c.short_id)})
)
_INSERT_MARK = Prepared(insert(RUN_MARKS))
_PROJECT_OF_RUN = select(RUNS.c.project_id).where(RUNS.c.id == bindparam("run_id")).scalar_subquery()
_INSERT_ATTEMPT = Prepared(
    insert(ATTEMPTS).values(
        {column.name: bindparam(column.name) for column in ATTEMPT.columns} | {"project_id": _PROJECT_OF_RUN}
    )
)
_EVENT_COLUMNS: Final = ("run_id", "type", "at", "lease_epoch", "reason", "note", "actor")
# The event takes its project and task from its run, so that nobody can get them wrong.
_INSERT_EVENT = Prepared(
    insert(RUN_EVENTS).from_select(
        ["project_id", "task_id", *_EVENT_COLUMNS],
        select(
            RUNS.c.project_id,
            RUNS.c.task_id,
            *(bindparam(name, type_=RUN_EVENTS.c[name].type) for name in _EVENT_COLUMNS),
        ).where(RUNS.c.id == bindparam("run_id")),
    )
)


def insert_spec(
    connection: Connection, sha256: str, data: bytes, at: datetime, secret_names: Sequence[str] = ()
) -> None:
    """Keeps a spec once, with the names of the secrets that it refers to; nothing if it is there."""
    if _SPEC_KNOWN.one(connection, {"sha256": sha256}) is not None:
        return
    _INSERT_SPEC.run(connection, {"sha256": sha256, "body": data, "created_at": to_us(at)})
    if secret_names:
        rows = [{"sha256": sha256, "name": name} for name in sorted(set(secret_names))]
        connection.execute(_INSERT_SPEC_SECRETS, rows)


def insert_run(connection: Connection, run: Run) -> None:
    _INSERT_RUN.run(connection, RUN.values(run, short_id=short_id(run.id)))
    for key, value in marks(run.tags, run.options.labels):
        _INSERT_MARK.run(connection, {"run_id": run.id, "key": key, "value": value})
    insert_places(connection, run)


def insert_run_secrets(connection: Connection, run_id: RunId, sealed: Mapping[str, bytes]) -> None:
    """The sealed values of sensitive variables that came with a run."""
    rows = [{"run_id": run_id, "name": name, "sealed": sealed[name]} for name in sorted(sealed)]
    if rows:
        connection.execute(insert(RUN_SECRETS), rows)


def delete_run_secrets(connection: Connection, run_id: RunId) -> None:
    connection.execute(delete(RUN_SECRETS).where(RUN_SECRETS.c.run_id == run_id))


def save_run(connection: Connection, old: Run, new: Run) -> bool:
    """Writes what differs if the run still has the old one's epoch and state; False if it has moved."""
    guards = {"id": old.id, "lease_epoch": old.lease_epoch, "state": str(old.state)}
    saved = compare_and_set(connection, RUNS, RUN.changes(old, new), guards)
    if saved and new.places:
        move_places(connection, old, new)
    return saved


def insert_attempt(connection: Connection, attempt: Attempt) -> None:
    _INSERT_ATTEMPT.run(connection, ATTEMPT.values(attempt))


def save_attempt(connection: Connection, old: Attempt, new: Attempt) -> bool:
    """Writes what differs if the attempt still is in the old one's state; False if it has moved."""
    guards = {"run_id": old.run_id, "lease_epoch": old.lease_epoch, "state": str(old.state)}
    return compare_and_set(connection, ATTEMPTS, ATTEMPT.changes(old, new), guards)


def append_events(connection: Connection, events: Sequence[RunEventRecord]) -> None:
    """Adds to the history; the numbers are given here, in the order of the commits."""
    for event in events:
        _INSERT_EVENT.run(connection, RUN_EVENT.values(event))


def prune_rejected(connection: Connection, run_id: RunId, keep: int) -> int:
    """Deletes the oldest rejected attempts, beyond the newest `keep`, that no runner was ever given."""
    rejected = (
        select(ATTEMPTS.c.lease_epoch)
        .where(
            ATTEMPTS.c.run_id == run_id,
            ATTEMPTS.c.state == str(AttemptState.REJECTED),
            ATTEMPTS.c.assigned_at.is_(None),
        )
        .order_by(ATTEMPTS.c.lease_epoch.desc())
        .offset(keep)
        .limit(500)
    )
    epochs = [row[0] for row in connection.execute(rejected)]
    if not epochs:
        return 0
    condition = (ATTEMPTS.c.run_id == run_id) & ATTEMPTS.c.lease_epoch.in_(epochs)
    return connection.execute(delete(ATTEMPTS).where(condition)).rowcount


def short_id(run_id: RunId) -> str:
    return run_id.replace("-", "")[-SHORT_ID_DIGITS:].lower()
