"""Writes about the server itself: who it is, and values that outlive it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from control_plane.domain.ids import RunId, RunnerId
from control_plane.storage.rows import to_us
from control_plane.storage.tables import SERVER, SETTINGS

# Events up to this number may be gone: a watch cannot be resumed behind an older one.
EVENTS_DELETED_TO: Final = "events_deleted_to"
# Runs that a runner holds under a fence that was never given out here, by runner: run ids with spaces between.
WITHHELD_PREFIX: Final = "withheld:"


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


def delete_setting(connection: Connection, key: str) -> None:
    connection.execute(delete(SETTINGS).where(SETTINGS.c.key == key))


def raise_generation(connection: Connection, generation: int) -> None:
    """Every fence from now on is above all of the generations before. Raises ValueError for one that is not higher."""
    known = connection.execute(select(SERVER.c.generation)).scalar()
    if known is None or not known < generation < 1 << 15:
        raise ValueError(f"the generation cannot become {generation} after {known}")
    connection.execute(update(SERVER).values(generation=generation))


def store_withheld(connection: Connection, *, runner_id: RunnerId, runs: Iterable[RunId], at: datetime) -> None:
    """The runs that this runner withholds; none: it withholds nothing."""
    key, value = WITHHELD_PREFIX + runner_id, " ".join(sorted(runs))
    delete_setting(connection, key)
    if value:
        connection.execute(insert(SETTINGS), {"key": key, "value": value, "updated_at": to_us(at)})
