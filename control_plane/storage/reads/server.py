"""Reads about the server itself: who it is, and how it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, select, text

from control_plane.domain.ids import RunId, RunnerId
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import at_or_none, from_us
from control_plane.storage.tables import ATTEMPTS, RUNNERS, RUNS, SCHEDULES, SERVER, SETTINGS
from control_plane.storage.tables.runs import ACTIVE_RUN, LIVE_ATTEMPT
from control_plane.storage.tables.schedules import DUE_SCHEDULE

# Keys of settings.
EVENTS_DELETED_TO = "events_deleted_to"
AWAITING_RUNNERS = "awaiting_runners"
WITHHELD_PREFIX = "withheld:"

_GENERATION = Prepared(select(SERVER.c.generation))

_THERE = case((RUNNERS.c.connected, 1), else_=0)
_SLOTS_THERE = case((RUNNERS.c.connected, RUNNERS.c.slots), else_=0)
_RUNNERS_COUNTED = Prepared(
    select(func.count(), func.coalesce(func.sum(_THERE), 0), func.coalesce(func.sum(_SLOTS_THERE), 0)).where(
        RUNNERS.c.revoked_at.is_(None)
    )
)
_SLOTS_USED = Prepared(select(func.coalesce(func.sum(ATTEMPTS.c.slots), 0)).where(text(LIVE_ATTEMPT)))
_RUNS_BY_STATE = Prepared(select(RUNS.c.state, func.count()).where(text(ACTIVE_RUN)).group_by(RUNS.c.state))
_SCHEDULES_DUE = Prepared(select(func.count(), func.min(SCHEDULES.c.next_fire_at)).where(text(DUE_SCHEDULE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The identity of this database. A restore from backup raises the generation."""

    instance_id: str
    generation: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCounts:
    """How many there are of what."""

    runners_connected: int
    runners_disconnected: int
    slots_total: int
    slots_used: int
    runs_queued: int
    runs_active: int
    schedules_active: int
    next_fire_at: datetime | None


def instance(connection: Connection) -> Instance | None:
    """None before the first start has given it one."""
    row = connection.execute(select(SERVER)).first()
    if row is None:
        return None
    return Instance(instance_id=row.instance_id, generation=row.generation, created_at=from_us(row.created_at))


def generation(connection: Connection) -> int:
    row = _GENERATION.one(connection)
    return 0 if row is None else int(row[0])


def events_deleted_to(connection: Connection) -> int:
    """Change rows up to this number may be gone; 0: none is."""
    return setting(connection, EVENTS_DELETED_TO)


def setting(connection: Connection, key: str) -> int:
    """A number that outlives the server; 0 when it was never stored."""
    value = connection.execute(select(SETTINGS.c.value).where(SETTINGS.c.key == key)).scalar()
    return int(value or 0)


def withheld_runs(connection: Connection) -> dict[RunnerId, frozenset[RunId]]:
    """What writes.store_withheld has kept."""
    found = connection.execute(select(SETTINGS).where(SETTINGS.c.key.startswith(WITHHELD_PREFIX, autoescape=True)))
    return {
        RunnerId(row.key.removeprefix(WITHHELD_PREFIX)): frozenset(RunId(run) for run in row.value.split())
        for row in found
    }


def status_counts(connection: Connection) -> StatusCounts:
    runners, connected, slots_total = _only(_RUNNERS_COUNTED, connection)
    schedules, next_fire_at = _only(_SCHEDULES_DUE, connection)
    (slots_used,) = _only(_SLOTS_USED, connection)
    states = {state: int(count) for state, count in _RUNS_BY_STATE.all(connection)}
    return StatusCounts(
        runners_connected=connected,
        runners_disconnected=runners - connected,
        slots_total=slots_total,
        slots_used=int(slots_used),
        runs_queued=states.get("QUEUED", 0),
        runs_active=sum(states.values()) - states.get("QUEUED", 0),
        schedules_active=schedules,
        next_fire_at=at_or_none(next_fire_at),
    )


def _only(statement: Prepared, connection: Connection) -> Sequence[Any]:
    """The one row that an aggregate always has."""
    row = statement.one(connection)
    return () if row is None else row
