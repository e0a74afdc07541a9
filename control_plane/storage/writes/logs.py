"""Writes of the log index."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from control_plane.domain.ids import AttemptKey
from control_plane.domain.logs import LogSegment
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import to_us, us_or_none
from control_plane.storage.tables import ATTEMPTS, LOG_SEGMENTS

_KEY = (
    LOG_SEGMENTS.c.run_id == bindparam("key_run"),
    LOG_SEGMENTS.c.lease_epoch == bindparam("key_epoch"),
    LOG_SEGMENTS.c.number == bindparam("key_number"),
)
_KNOWN = Prepared(select(LOG_SEGMENTS.c.number).where(*_KEY))
_PROJECT = select(ATTEMPTS.c.project_id).where(
    ATTEMPTS.c.run_id == bindparam("run_id"), ATTEMPTS.c.lease_epoch == bindparam("lease_epoch")
)
_VALUES = ("first_offset", "end_offset", "first_at", "newlines", "stored_bytes")
_UPDATE = Prepared(update(LOG_SEGMENTS).where(*_KEY).values({name: bindparam(f"new_{name}") for name in _VALUES}))
_INSERT = Prepared(
    insert(LOG_SEGMENTS).values(
        {name: bindparam(name) for name in ("run_id", "lease_epoch", "number", *_VALUES)}
        | {"project_id": _PROJECT.scalar_subquery()}
    )
)


def upsert_segment(connection: Connection, key: AttemptKey, segment: LogSegment) -> None:
    """Keeps the newest word about one segment of a log."""
    values = {
        "first_offset": segment.first_offset,
        "end_offset": segment.end_offset,
        "first_at": us_or_none(segment.first_at),
        "newlines": segment.newlines,
        "stored_bytes": segment.stored_bytes,
    }
    where = {"key_run": key.run_id, "key_epoch": key.lease_epoch, "key_number": segment.index}
    if _KNOWN.one(connection, where) is None:
        row = {"run_id": key.run_id, "lease_epoch": key.lease_epoch, "number": segment.index}
        _INSERT.run(connection, row | values)
    else:
        _UPDATE.run(connection, where | {f"new_{name}": value for name, value in values.items()})


def mark_log_deleted(connection: Connection, key: AttemptKey, at: datetime) -> bool:
    """Says that retention has removed a log's bytes; False if it was said before."""
    of_log = (LOG_SEGMENTS.c.run_id == key.run_id) & (LOG_SEGMENTS.c.lease_epoch == key.lease_epoch)
    connection.execute(delete(LOG_SEGMENTS).where(of_log))
    marked = update(ATTEMPTS).where(
        ATTEMPTS.c.run_id == key.run_id,
        ATTEMPTS.c.lease_epoch == key.lease_epoch,
        ATTEMPTS.c.log_deleted_at.is_(None),
    )
    return connection.execute(marked.values(log_deleted_at=to_us(at))).rowcount == 1
