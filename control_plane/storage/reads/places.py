"""Reads of limits: whose places are taken, and which queues there are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, bindparam, func, select, text, true

from control_plane.domain.concurrency import ConcurrencyLimit, Place, Taken
from control_plane.domain.ids import ProjectId, RunId
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import reader_of
from control_plane.storage.tables import PROJECTS, RUN_PLACES, RUNS
from control_plane.storage.tables.runs import QUEUED_RUN, VISIBLE_RUN

# Nothing sorts behind it.
LAST: Final = "\U0010ffff"

_GROUP: Final = RUN_PLACES.c.place_group == bindparam("place_group")
_HELD: Final = Prepared(select(func.count(), func.min(RUN_PLACES.c.run_id)).where(_GROUP, RUN_PLACES.c.holds == true()))
_ACTIVE: Final = Prepared(
    select(RUN_PLACES.c.run_id)
    .where(_GROUP, RUN_PLACES.c.holds == bindparam("holds"))
    .order_by(RUN_PLACES.c.run_id)
    .limit(bindparam("limit"))
)
_OF_PROJECT: Final = and_(RUNS.c.project_id == bindparam("project_id"), text(VISIBLE_RUN))


def _project_runs(states: str) -> Select[Any]:
    return select(RUNS.c.id).where(_OF_PROJECT, text(f"state IN ({states})"))


_HELD_OF_PROJECT: Final = Prepared(
    _project_runs("'ASSIGNED', 'RUNNING', 'CANCELLING'").with_only_columns(func.count(), func.min(RUNS.c.id))
)
# Each state by its own range of the index, so that nothing is sorted.
_ACTIVE_OF_PROJECT: Final = tuple(
    Prepared(_project_runs(f"'{state}'").order_by(RUNS.c.id).limit(bindparam("limit")))
    for state in ("ASSIGNED", "RUNNING", "CANCELLING", "QUEUED")
)
_PROJECT_LIMIT: Final = Prepared(select(PROJECTS.c.concurrency).where(PROJECTS.c.id == bindparam("id")))
_FIRST_LANE: Final = Prepared(select(RUNS.c.lane).where(text(QUEUED_RUN)).order_by(RUNS.c.lane).limit(1))
_NEXT_LANE: Final = Prepared(
    select(RUNS.c.lane).where(text(QUEUED_RUN), RUNS.c.lane > bindparam("after")).order_by(RUNS.c.lane).limit(1)
)

_limit_of: Final = lru_cache(maxsize=1024)(reader_of(ConcurrencyLimit))


def project_limit(connection: Connection, project_id: ProjectId) -> ConcurrencyLimit | None:
    """The limit over all runs of a project; None: there is none."""
    row = _PROJECT_LIMIT.one(connection, {"id": project_id})
    if row is None or row[0] is None:
        return None
    found: ConcurrencyLimit = _limit_of(row[0])
    return found


def held(connection: Connection, place: Place) -> Taken:
    """The places of a group that runs hold, whether a runner has them or they were only offered."""
    project_id = _project(place)
    if project_id:
        row = _HELD_OF_PROJECT.one(connection, {"project_id": project_id})
    else:
        row = _HELD.one(connection, {"place_group": place.group})
    count, oldest = (0, None) if row is None else (row[0], row[1])
    return Taken(count=count, run_id=None if oldest is None else RunId(oldest))


def active(connection: Connection, place: Place, limit: int) -> tuple[RunId, ...]:
    """The oldest runs of a group that are not over, waiting ones included; at most `limit`."""
    project_id = _project(place)
    if project_id:
        asked = {"project_id": project_id, "limit": limit}
        rows = [row for statement in _ACTIVE_OF_PROJECT for row in statement.all(connection, asked)]
    else:
        wanted = {"place_group": place.group, "limit": limit}
        rows = [row for holds in (True, False) for row in _ACTIVE.all(connection, {**wanted, "holds": holds})]
    return tuple(sorted(RunId(row[0]) for row in rows)[:limit])


def _project(place: Place) -> str:
    kind, _, rest = place.group.partition(":")
    return rest if kind == "all" else ""


def lanes(connection: Connection, after: str, limit: int) -> tuple[str, ...]:
    """Queues in which a run waits, in the order of their names behind `after` (empty: from the first).

    One small step of the index for each, however many runs wait in them.
    """
    found: list[str] = []
    row = _NEXT_LANE.one(connection, {"after": after}) if after else _FIRST_LANE.one(connection)
    while row is not None:
        found.append(row[0])
        if len(found) == limit:
            break
        row = _NEXT_LANE.one(connection, {"after": row[0]})
    return tuple(found)
