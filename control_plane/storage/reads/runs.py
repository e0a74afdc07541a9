"""Reads of specs, runs, attempts and their history."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    text,
)

from control_plane.domain.attempt import Attempt, AttemptState
from control_plane.domain.concurrency import Place
from control_plane.domain.filters import EVERYTHING, Filter
from control_plane.domain.history import RunEventRecord
from control_plane.domain.ids import AttemptKey, PrincipalId, ProjectId, RunId, RunnerId, ScheduleId, TaskId
from control_plane.domain.pages import Page
from control_plane.domain.run import Run, RunState
from control_plane.storage.filters import RUN_LEAVES, condition
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.prepared import Prepared
from control_plane.storage.reads.firings import NOT_ITS_TURN
from control_plane.storage.reads.run_lists import RunFilter as RunFilter
from control_plane.storage.reads.run_lists import list_runs as list_runs
from control_plane.storage.reads.run_lists import visible_run
from control_plane.storage.rows import AnyRow, at_or_none, from_us, reader_of, to_us
from control_plane.storage.shapes import ATTEMPT, RUN, RUN_EVENT
from control_plane.storage.tables import ATTEMPTS, RUN_EVENTS, RUN_SECRETS, RUNNERS, RUNS, SPECS, TASKS
from control_plane.storage.tables.runs import ACTIVE_RUN, LIVE_ATTEMPT, QUEUED_RUN

_RUNS: Final = select(*RUN.columns)
_RUN: Final = Prepared(_RUNS.where(RUNS.c.id == bindparam("id"), RUNS.c.hidden_at.is_(None)))
_RUN_OR_TOMBSTONE: Final = Prepared(_RUNS.where(RUNS.c.id == bindparam("id")))
_SPEC: Final = Prepared(select(SPECS.c.body).where(SPECS.c.sha256 == bindparam("sha256")))
_QUEUED: Final = Prepared(
    # A round of dispatch reads many of them, and of each only this.
    select(
        RUNS.c.id,
        RUNS.c.project_id,
        RUNS.c.spec_sha256,
        RUNS.c.priority,
        RUNS.c.queue_rank,
        RUNS.c.created_at,
        RUNS.c.not_before,
        RUNS.c.lane,
        RUNS.c.places,
    )
    .where(
        text(f"runs.{QUEUED_RUN}"),
        RUNS.c.not_before.is_(None) | (RUNS.c.not_before <= bindparam("now")),
        ~NOT_ITS_TURN,
    )
    .where(RUNS.c.lane == bindparam("lane"))
    .order_by(RUNS.c.priority.desc(), RUNS.c.queue_rank, RUNS.c.id)
    .limit(bindparam("limit"))
)
_NEXT_NOT_BEFORE: Final = Prepared(
    select(func.min(RUNS.c.not_before)).where(
        text(f"{QUEUED_RUN} AND not_before IS NOT NULL"), RUNS.c.not_before > bindparam("now")
    )
)
_NOT_DUE: Final = Prepared(
    select(RUNS.c.not_before)
    .where(text(f"{QUEUED_RUN} AND not_before IS NOT NULL"), RUNS.c.not_before > bindparam("now"))
    .order_by(RUNS.c.not_before)
    .limit(1)
    .offset(bindparam("most"))
)
_DUE: Final = Prepared(
    select(RUNS.c.id)
    .where(text("due_at IS NOT NULL"), RUNS.c.due_at <= bindparam("now"))
    .order_by(RUNS.c.due_at, RUNS.c.id)
    .limit(bindparam("limit"))
)

# A runner's name and silence belong to what readers see of an attempt.
_ATTEMPTS: Final = select(*ATTEMPT.columns, RUNNERS.c.name, RUNNERS.c.disconnected_since).join(
    RUNNERS, RUNNERS.c.id == ATTEMPTS.c.runner_id
)
_ATTEMPT: Final = Prepared(
    _ATTEMPTS.where(ATTEMPTS.c.run_id == bindparam("run_id"), ATTEMPTS.c.lease_epoch == bindparam("lease_epoch"))
)
_ATTEMPTS_OF_RUN: Final = Prepared(
    _ATTEMPTS.where(ATTEMPTS.c.run_id == bindparam("run_id")).order_by(ATTEMPTS.c.lease_epoch.desc())
)
_LIVE_ATTEMPTS: Final = _ATTEMPTS.where(text(f"attempts.{LIVE_ATTEMPT}")).order_by(
    ATTEMPTS.c.run_id, ATTEMPTS.c.lease_epoch
)
_LIVE: Final = Prepared(_LIVE_ATTEMPTS)
_LIVE_OF_RUNNER: Final = Prepared(_LIVE_ATTEMPTS.where(ATTEMPTS.c.runner_id == bindparam("runner_id")))

_ACTIVE_OF_SCHEDULE: Final = Prepared(
    select(RUNS.c.id).where(RUNS.c.schedule_id == bindparam("schedule_id"), text(ACTIVE_RUN))
)

_EVENTS: Final = select(*RUN_EVENT.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Whose change rows a watch wants: one run's, else one task's, else a project's."""

    project_id: ProjectId
    run_id: RunId | None = None
    task_id: TaskId | None = None
    # Of runs that match it when they are told.
    matching: Filter = EVERYTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A queued run as far as placing it goes; its spec says the rest."""

    id: RunId
    project_id: ProjectId
    spec_sha256: str
    priority: int
    queue_rank: int
    created_at: datetime
    not_before: datetime | None
    lane: str = ""
    places: tuple[Place, ...] = ()


_places: Final = reader_of(tuple[Place, ...])


def spec_bytes(connection: Connection, sha256: str) -> bytes | None:
    row = _SPEC.one(connection, {"sha256": sha256})
    return None if row is None else bytes(row[0])


def run(connection: Connection, run_id: RunId) -> Run | None:
    row = _RUN.one(connection, {"id": run_id})
    return None if row is None else RUN.entity(row)


def run_or_tombstone(connection: Connection, run_id: RunId) -> Run | None:
    """Also one that was deleted, whose row may be emptied: for what runners say of it, never for readers."""
    row = _RUN_OR_TOMBSTONE.one(connection, {"id": run_id})
    return None if row is None else RUN.entity(row)


def run_secrets(connection: Connection, run_id: RunId) -> dict[str, bytes]:
    """The sealed values of sensitive variables that came with a run; none once it has settled."""
    query = select(RUN_SECRETS.c.name, RUN_SECRETS.c.sealed).where(RUN_SECRETS.c.run_id == run_id)
    return {row[0]: bytes(row[1]) for row in connection.execute(query)}


def queued_runs(connection: Connection, now: datetime, limit: int, lane: str = "") -> tuple[Waiting, ...]:
    """Runs of one lane that may be offered now, in the order in which they should be."""
    return tuple(
        Waiting(
            id=RunId(run_id),
            project_id=ProjectId(project_id),
            spec_sha256=spec_sha256,
            priority=priority,
            queue_rank=queue_rank,
            created_at=from_us(created_at),
            not_before=at_or_none(not_before),
            lane=lane,
            places=() if places == "[]" else _places(places),
        )
        for run_id, project_id, spec_sha256, priority, queue_rank, created_at, not_before, lane, places in _QUEUED.all(
            connection, {"now": to_us(now), "limit": limit, "lane": lane}
        )
    )


def next_not_before(connection: Connection, now: datetime) -> datetime | None:
    """The earliest instant behind `now` at which a queued run may be offered that now may not."""
    row = _NEXT_NOT_BEFORE.one(connection, {"now": to_us(now)})
    return None if row is None else at_or_none(row[0])


def more_are_not_due(connection: Connection, now: datetime, most: int) -> bool:
    """Whether more than so many queued runs wait for their `not_before`. It costs so many steps of an index."""
    return _NOT_DUE.one(connection, {"now": to_us(now), "most": most}) is not None


def due_runs(connection: Connection, now: datetime, limit: int) -> tuple[RunId, ...]:
    """Runs that a wall clock concerns now, oldest first."""
    return tuple(RunId(row[0]) for row in _DUE.all(connection, {"now": to_us(now), "limit": limit}))


def active_runs_of_task(connection: Connection, task_id: TaskId) -> tuple[RunId, ...]:
    """Oldest first."""
    return _ids(connection, select(RUNS.c.id).where(RUNS.c.task_id == task_id, text(ACTIVE_RUN)))


def matching_runs(connection: Connection, run_ids: Collection[RunId], matching: Filter) -> frozenset[RunId]:
    """Those of these runs that a filter matches now."""
    if matching == EVERYTHING:
        return frozenset(run_ids)
    query = select(RUNS.c.id).where(RUNS.c.id.in_(run_ids), condition(matching, RUN_LEAVES))
    return frozenset(RunId(row[0]) for row in connection.execute(query))


def active_runs_matching(
    connection: Connection,
    *,
    project_id: ProjectId,
    matching: Filter,
    visible_to: PrincipalId | None,
    limit: int,
) -> tuple[RunId, ...]:
    """Runs of a project that are not over and that a filter matches, oldest first."""
    query = select(RUNS.c.id).where(
        RUNS.c.project_id == project_id, text(f"runs.{ACTIVE_RUN}"), condition(matching, RUN_LEAVES)
    )
    if visible_to is not None:
        query = query.where(visible_run(visible_to))
    return _ids(connection, query.limit(limit))


def waiting_runs_of_deleted_tasks(connection: Connection, limit: int) -> tuple[RunId, ...]:
    """Runs that no runner has yet (QUEUED, or ASSIGNED by an open offer) although their task was deleted."""
    offered = exists().where(ATTEMPTS.c.run_id == RUNS.c.id, ATTEMPTS.c.state == str(AttemptState.OFFERED))
    query = (
        select(RUNS.c.id)
        .join(TASKS, TASKS.c.id == RUNS.c.task_id)
        .where(
            text(f"runs.{ACTIVE_RUN}"),
            TASKS.c.deleted_at.is_not(None),
            or_(RUNS.c.state == str(RunState.QUEUED), and_(RUNS.c.state == str(RunState.ASSIGNED), offered)),
        )
        .limit(limit)
    )
    return _ids(connection, query)


def active_runs_of_schedule(connection: Connection, schedule_id: ScheduleId) -> tuple[RunId, ...]:
    """Oldest first."""
    return tuple(sorted(RunId(row[0]) for row in _ACTIVE_OF_SCHEDULE.all(connection, {"schedule_id": schedule_id})))


def _ids(connection: Connection, query: Select[Any]) -> tuple[RunId, ...]:
    # Sorted here: asked to sort, the planner would read all runs in order instead of the few that are active.
    return tuple(sorted(RunId(row[0]) for row in connection.execute(query)))


def attempt(connection: Connection, key: AttemptKey) -> Attempt | None:
    row = _ATTEMPT.one(connection, {"run_id": key.run_id, "lease_epoch": key.lease_epoch})
    return None if row is None else seen(row)


def attempts(connection: Connection, run_id: RunId) -> tuple[Attempt, ...]:
    """Newest first."""
    return tuple(seen(row) for row in _ATTEMPTS_OF_RUN.all(connection, {"run_id": run_id}))


def live_attempts(connection: Connection, runner_id: RunnerId | None = None) -> tuple[Attempt, ...]:
    """OFFERED, STARTING, RUNNING and STOPPING attempts, of one runner or of all."""
    if runner_id is None:
        return tuple(seen(row) for row in _LIVE.all(connection))
    return tuple(seen(row) for row in _LIVE_OF_RUNNER.all(connection, {"runner_id": runner_id}))


def seen(row: AnyRow) -> Attempt:
    """An attempt by its columns, its runner's name and since when that is away."""
    # A finished attempt is not waiting for its runner any more.
    away = row[-1] if row[_ENDED_AT] is None else None
    return ATTEMPT.entity(row, runner_name=row[-2], disconnected_since=at_or_none(away))


_ENDED_AT: Final = [column.name for column in ATTEMPT.columns].index("ended_at")


def list_events(connection: Connection, run_id: RunId, request: PageRequest) -> Page[RunEventRecord]:
    """A run's history, oldest first."""
    return fetch_page(
        connection,
        query=_EVENTS.where(RUN_EVENTS.c.run_id == run_id),
        key=RUN_EVENTS.c.number,
        key_of=lambda item: item.number,
        build=RUN_EVENT.entity,
        request=request,
        scope=("events", run_id),
    )


def events_after(connection: Connection, wanted: EventFilter, number: int, limit: int) -> tuple[RunEventRecord, ...]:
    """Change rows behind `number`, in the order of their commits."""
    query = _EVENTS.where(RUN_EVENTS.c.number > number).order_by(RUN_EVENTS.c.number).limit(limit)
    if wanted.run_id is not None:
        query = query.where(RUN_EVENTS.c.run_id == wanted.run_id)
    elif wanted.task_id is not None:
        query = query.where(RUN_EVENTS.c.task_id == wanted.task_id)
    query = query.where(RUN_EVENTS.c.project_id == wanted.project_id)
    return tuple(RUN_EVENT.entity(row) for row in connection.execute(query))


def newest_event_number(connection: Connection) -> int:
    """0 when nothing has happened yet."""
    return connection.execute(select(func.max(RUN_EVENTS.c.number))).scalar() or 0
