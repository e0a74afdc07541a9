"""Writes of the places that runs take under their limits: rows that live as long as their run is not over."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, update

from control_plane.domain.run import RUN_TERMINAL, Run, RunState
from control_plane.storage.prepared import Prepared
from control_plane.storage.tables import RUN_PLACES

_OF_RUN: Final = RUN_PLACES.c.run_id == bindparam("of_run")
_INSERT: Final = Prepared(insert(RUN_PLACES))
_HOLD: Final = Prepared(update(RUN_PLACES).where(_OF_RUN).values(holds=bindparam("holds")))
_DELETE: Final = Prepared(delete(RUN_PLACES).where(_OF_RUN))


def insert_places(connection: Connection, run: Run) -> None:
    """A run that was just born takes part in its limits; one that was born over does not."""
    if run.state in RUN_TERMINAL:
        return
    for place in run.places:
        _INSERT.run(connection, {"run_id": run.id, "place_group": place.group, "holds": False})


def move_places(connection: Connection, old: Run, new: Run) -> None:
    """The run has changed its state: only one that waits holds no place, and one that is over takes none."""
    if new.state is old.state or not new.places:
        return
    if new.state in RUN_TERMINAL:
        _DELETE.run(connection, {"of_run": new.id})
    elif RunState.QUEUED in (old.state, new.state):
        _HOLD.run(connection, {"of_run": new.id, "holds": new.state is not RunState.QUEUED})
