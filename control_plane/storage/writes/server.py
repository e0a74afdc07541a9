"""Writes about the server itself: who it is, and values that outlive it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, insert, select, update

from control_plane.storage.rows import to_us
from control_plane.storage.tables import SERVER, SETTINGS

# Events up to this number may be gone: a watch cannot be resumed behind an older one.
EVENTS_DELETED_TO: Final = "events_deleted_to"


def insert_server(connection: Connection, *, instance_id: str, at: datetime) -> None:
    """Gives the database its identity; nothing if it has one."""
    if connection.execute(select(SERVER.c.id)).first() is None:
        row = {"id": 1, "instance_id": instance_id, "generation": 0, "created_at": to_us(at)}
        connection.execute(insert(SERVER), row)


def raise_setting(connection: Connection, key: str, value: int, at: datetime) -> None:
    """Keeps the larger of the stored number and `value`."""
    stored = connection.execute(select(SETTINGS.c.value).where(SETTINGS.c.key == key)).scalar()
    if stored is None:
        connection.execute(insert(SETTINGS), {"key": key, "value": str(value), "updated_at": to_us(at)})
    elif int(stored) < value:
        change = update(SETTINGS).where(SETTINGS.c.key == key)
        connection.execute(change.values(value=str(value), updated_at=to_us(at)))
