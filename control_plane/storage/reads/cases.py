"""A run with one of its attempts in one row: what nearly every verb begins with."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, select

from control_plane.domain.attempt import Attempt
from control_plane.domain.ids import RunId
from control_plane.domain.run import Run
from control_plane.storage.prepared import Prepared
from control_plane.storage.reads.runs import seen
from control_plane.storage.shapes import ATTEMPT, RUN
from control_plane.storage.tables import ATTEMPTS, RUNNERS, RUNS

_BOTH: Final = select(*RUN.columns, *ATTEMPT.columns, RUNNERS.c.name, RUNNERS.c.disconnected_since).where(
    RUNS.c.id == bindparam("id")
)


def _joined(epoch: ColumnElement[int]) -> Prepared:
    """A run and its attempt of this epoch, if it has that."""
    its = and_(ATTEMPTS.c.run_id == RUNS.c.id, ATTEMPTS.c.lease_epoch == epoch)
    source = RUNS.outerjoin(ATTEMPTS, its).outerjoin(RUNNERS, RUNNERS.c.id == ATTEMPTS.c.runner_id)
    return Prepared(_BOTH.select_from(source))


_WITH_ATTEMPT: Final = _joined(bindparam("lease_epoch", type_=ATTEMPTS.c.lease_epoch.type))
_WITH_NEWEST: Final = _joined(RUNS.c.lease_epoch)


def run_with_attempt(
    connection: Connection, run_id: RunId, lease_epoch: int | None = None
) -> tuple[Run | None, Attempt | None]:
    """A run, or its tombstone, with its attempt of an epoch, by default the newest; None for what is not there."""
    if lease_epoch is None:
        row = _WITH_NEWEST.one(connection, {"id": run_id})
    else:
        row = _WITH_ATTEMPT.one(connection, {"id": run_id, "lease_epoch": lease_epoch})
    if row is None:
        return None, None
    own = row[len(RUN.columns) :]
    return RUN.entity(row), None if own[0] is None else seen(own)
