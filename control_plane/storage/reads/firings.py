"""Reads of firings: which instants of a schedule were taken, and which runs wait for others of their schedule."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, or_, select, text

from control_plane.domain.ids import RunId, ScheduleId
from control_plane.domain.limits import TOTAL_SIZE_CAP
from control_plane.domain.pages import Page
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunState
from control_plane.domain.schedule import Firing, FiringOrigin
from control_plane.storage.paging import PageRequest, count_rows, open_key, seal_key
from control_plane.storage.rows import from_us, json_text, to_us
from control_plane.storage.tables import FIRINGS, RUN_TURNS, RUNS
from control_plane.storage.tables.runs import ACTIVE_RUN

_OTHER: Final = RUNS.alias("other")
# Active runs before which a run that waits for its turn must not start: those that a runner may have, and those that
# are ahead of it in the queue.
BEFORE_IT: Final[ColumnElement[bool]] = and_(
    _OTHER.c.schedule_id == RUNS.c.schedule_id,
    text(f"other.{ACTIVE_RUN}"),
    _OTHER.c.id != RUNS.c.id,
    or_(_OTHER.c.state != "QUEUED", _OTHER.c.id < RUNS.c.id),
)
NOT_ITS_TURN: Final[ColumnElement[bool]] = and_(
    RUNS.c.schedule_id.is_not(None),
    exists().where(RUN_TURNS.c.run_id == RUNS.c.id),
    exists().where(BEFORE_IT),
)


def run_ahead(connection: Connection, run_id: RunId) -> RunId | None:
    """A run that another one has to wait for; None when it is its turn."""
    query = (
        select(_OTHER.c.id)
        .select_from(RUNS.join(RUN_TURNS, RUN_TURNS.c.run_id == RUNS.c.id))
        .join(_OTHER, BEFORE_IT)
        .where(RUNS.c.id == run_id)
        .limit(1)
    )
    found = connection.execute(query).scalar()
    return None if found is None else RunId(found)


def firings(connection: Connection, schedule_id: ScheduleId, limit: int) -> tuple[Firing, ...]:
    """Newest first."""
    return tuple(_firing(row) for row in connection.execute(_newest_first(schedule_id).limit(limit)))


def list_firings(connection: Connection, schedule_id: ScheduleId, request: PageRequest) -> Page[Firing]:
    """The latest instants first."""
    size, scope = request.size(), json_text(("firings", schedule_id))
    query = _newest_first(schedule_id)
    paged = query.limit(size + 1)
    if request.page_token:
        at_us, _, origin = str(open_key(scope, request.page_token)).partition(":")
        time, key = FIRINGS.c.scheduled_time, int(at_us)
        paged = paged.where(or_(time < key, and_(time == key, FIRINGS.c.origin < origin)))
    rows = connection.execute(paged).all()
    last = rows[size - 1] if len(rows) > size else None
    total = count_rows(connection, query) if request.include_total_size else None
    return Page(
        items=tuple(_firing(row) for row in rows[:size]),
        next_page_token="" if last is None else seal_key(scope, f"{last.scheduled_time}:{last.origin}"),
        total_size=None if total is None else min(total, TOTAL_SIZE_CAP),
        total_size_capped=total is not None and total > TOTAL_SIZE_CAP,
    )


def fired_times(
    connection: Connection, schedule_id: ScheduleId, first: datetime, last: datetime
) -> frozenset[datetime]:
    """The instants in [first, last] that have fired, whatever the origin; not those that were passed over."""
    query = select(FIRINGS.c.scheduled_time).where(
        FIRINGS.c.schedule_id == schedule_id,
        FIRINGS.c.scheduled_time.between(to_us(first), to_us(last)),
        FIRINGS.c.missed == 0,
    )
    return frozenset(from_us(row[0]) for row in connection.execute(query))


def run_of_firing(connection: Connection, schedule_id: ScheduleId, scheduled_time: datetime) -> RunId | None:
    """The run that an instant made; None if it made none."""
    query = select(FIRINGS.c.run_id).where(
        FIRINGS.c.schedule_id == schedule_id,
        FIRINGS.c.scheduled_time == to_us(scheduled_time),
        FIRINGS.c.run_id.is_not(None),
    )
    run_id = connection.execute(query).scalar()
    return None if run_id is None else RunId(run_id)


def _newest_first(schedule_id: ScheduleId) -> Select[Any]:
    order = (FIRINGS.c.scheduled_time.desc(), FIRINGS.c.origin.desc())
    query = select(FIRINGS, RUNS.c.state, RUNS.c.reason).select_from(
        FIRINGS.outerjoin(RUNS, and_(RUNS.c.id == FIRINGS.c.run_id, RUNS.c.hidden_at.is_(None)))
    )
    return query.where(FIRINGS.c.schedule_id == schedule_id).order_by(*order)


def _firing(row: Any) -> Firing:
    return Firing(
        origin=FiringOrigin(row.origin),
        scheduled_time=from_us(row.scheduled_time),
        run_id=row.run_id,
        missed=row.missed,
        created_at=from_us(row.created_at),
        run_state=None if row.state is None else RunState(row.state),
        run_reason=Reason(row.reason) if row.reason else None,
    )
