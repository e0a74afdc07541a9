"""Reads of the log index: whose logs they are, where they end, and which are old."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, Select, and_, bindparam, case, func, select, text

from control_plane.domain.attempt import ATTEMPT_TERMINAL, AttemptState
from control_plane.domain.ids import AttemptKey, Holder, ProjectId, RunId, RunnerId
from control_plane.domain.logs import LogAttempt, LogExit, LogOwner, LogSegment, LogView
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunState
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import AnyRow, at_or_none, from_us, to_us
from control_plane.storage.tables import ATTEMPTS, LOG_SEGMENTS, RUNS
from control_plane.storage.tables.runs import KEPT_LOG, UNSEALED_ATTEMPT

_A: Final = ATTEMPTS.c
_OWNER: Final = Prepared(
    select(
        _A.runner_id,
        _A.state_directory_id,
        _A.log_sealed_at,
        _A.exit_stored,
        _A.final_offset,
        _A.expected_digest,
        _A.log_counted,
        RUNS.c.lease_epoch,
    )
    .join(RUNS, RUNS.c.id == _A.run_id)
    .where(_A.run_id == bindparam("run_id"), _A.lease_epoch == bindparam("lease_epoch"))
)
_VIEW_RUN: Final = select(RUNS.c.state, RUNS.c.reason, RUNS.c.exit_code).where(
    RUNS.c.id == bindparam("run_id"), RUNS.c.hidden_at.is_(None)
)
_VIEW_ATTEMPTS: Final = (
    select(
        _A.lease_epoch,
        _A.number,
        _A.state,
        _A.log_sealed_at,
        _A.log_complete,
        _A.log_bytes,
        _A.log_digest,
        _A.exit_code,
        _A.log_deleted_at,
    )
    .where(_A.run_id == bindparam("run_id"), _A.assigned_at.is_not(None))
    .order_by(_A.lease_epoch)
)
_UNSEALED_OF_RUNNER: Final = (
    select(_A.run_id, _A.lease_epoch)
    .where(
        text(UNSEALED_ATTEMPT),
        _A.runner_id == bindparam("runner_id"),
        _A.state.in_(sorted(str(state) for state in ATTEMPT_TERMINAL)),
    )
    .order_by(_A.run_id, _A.lease_epoch)
)
_UNSEALED: Final = _UNSEALED_OF_RUNNER.where(_A.state_directory_id == bindparam("state_directory_id"))


def log_owner(connection: Connection, key: AttemptKey) -> LogOwner | None:
    """None when there is no such attempt, or no runner has accepted it."""
    row = _OWNER.one(connection, {"run_id": key.run_id, "lease_epoch": key.lease_epoch})
    if row is None:
        return None
    runner_id, directory, sealed_at, exit_stored, final_offset, digest, counted, current_lease_epoch = row
    if not directory:
        return None
    ended = LogExit(final_offset=final_offset or 0, digest=digest, counted=bool(counted)) if exit_stored else None
    return LogOwner(
        holder=Holder(runner_id=RunnerId(runner_id), state_directory_id=directory),
        sealed=sealed_at is not None,
        exit=ended,
        current_lease_epoch=current_lease_epoch,
    )


def log_view(connection: Connection, run_id: RunId) -> LogView | None:
    """A run with those of its attempts that were accepted: only they have logs."""
    found = connection.execute(_VIEW_RUN, {"run_id": run_id}).first()
    if found is None:
        return None
    return LogView(
        run_id=run_id,
        state=RunState(found.state),
        reason=None if found.reason is None else Reason(found.reason),
        exit_code=found.exit_code,
        attempts=tuple(_view(row) for row in connection.execute(_VIEW_ATTEMPTS, {"run_id": run_id})),
    )


def _view(row: Row[*tuple[Any, ...]]) -> LogAttempt:
    return LogAttempt(
        lease_epoch=row.lease_epoch,
        number=row.number,
        finished=AttemptState(row.state) in ATTEMPT_TERMINAL,
        sealed=row.log_sealed_at is not None,
        complete=row.log_complete,
        bytes=row.log_bytes,
        digest=row.log_digest,
        exit_code=row.exit_code,
        deleted=row.log_deleted_at is not None,
    )


def log_segments(connection: Connection, key: AttemptKey) -> tuple[LogSegment, ...]:
    """The index of one log, in the order of its bytes."""
    query = (
        select(LOG_SEGMENTS)
        .where(LOG_SEGMENTS.c.run_id == key.run_id, LOG_SEGMENTS.c.lease_epoch == key.lease_epoch)
        .order_by(LOG_SEGMENTS.c.number)
    )
    return tuple(
        LogSegment(
            index=row.number,
            first_offset=row.first_offset,
            end_offset=row.end_offset,
            first_at=at_or_none(row.first_at),
            newlines=row.newlines,
            stored_bytes=row.stored_bytes,
        )
        for row in connection.execute(query)
    )


def unsealed_logs(connection: Connection, holder: Holder) -> tuple[AttemptKey, ...]:
    """That holder's attempts that are over while their log is not sealed."""
    who = {"runner_id": holder.runner_id, "state_directory_id": holder.state_directory_id}
    return tuple(_key(row) for row in connection.execute(_UNSEALED, who))


def unsealed_of_runner(connection: Connection, runner_id: RunnerId) -> tuple[AttemptKey, ...]:
    """The runner's attempts, of whatever state directory, that are over while their log is not sealed."""
    return tuple(_key(row) for row in connection.execute(_UNSEALED_OF_RUNNER, {"runner_id": runner_id}))


def abandoned_logs(connection: Connection, before: datetime, limit: int) -> tuple[AttemptKey, ...]:
    """Attempts that ended before `before` while their log is still not sealed: runners that stayed away."""
    ended = func.coalesce(_A.ended_at, _A.offered_at)
    query = (
        select(_A.run_id, _A.lease_epoch)
        .where(
            text(UNSEALED_ATTEMPT),
            _A.state.in_(sorted(str(state) for state in ATTEMPT_TERMINAL)),
            ended < to_us(before),
        )
        .order_by(ended, _A.run_id, _A.lease_epoch)
        .limit(limit)
    )
    return tuple(_key(row) for row in connection.execute(query))


_BOTH: Final = case((_A.log_sealed_at > RUNS.c.settled_at, _A.log_sealed_at), else_=RUNS.c.settled_at)


def oldest_logs_of_project(
    connection: Connection, project_id: ProjectId, limit: int
) -> tuple[tuple[AttemptKey, int, datetime], ...]:
    """A project's sealed logs of settled runs with their stored bytes and when both were the case; oldest first."""
    query = _kept(_A.run_id, _A.lease_epoch, _stored(), _BOTH)
    query = query.where(_A.project_id == project_id, RUNS.c.settled_at.is_not(None)).limit(limit)
    return tuple((_key(row), int(row[2]), from_us(row[3])) for row in connection.execute(query))


def oldest_logs(connection: Connection, limit: int) -> tuple[tuple[AttemptKey, int], ...]:
    """Sealed logs of settled runs that are not deleted, with their stored bytes; oldest first."""
    query = _kept(_A.run_id, _A.lease_epoch, _stored()).where(RUNS.c.settled_at.is_not(None)).limit(limit)
    return tuple((_key(row), int(row[-1])) for row in connection.execute(query))


def _stored() -> ScalarSelect[Any]:
    """The bytes that a log takes."""
    of_log = and_(LOG_SEGMENTS.c.run_id == _A.run_id, LOG_SEGMENTS.c.lease_epoch == _A.lease_epoch)
    return select(func.coalesce(func.sum(LOG_SEGMENTS.c.stored_bytes), 0)).where(of_log).scalar_subquery()


def _kept(*columns: ColumnElement[Any]) -> Select[Any]:
    """Sealed logs that are not deleted, of runs that are not pinned, in the order in which they were sealed."""
    query = select(*columns).join(RUNS, RUNS.c.id == _A.run_id).where(text(KEPT_LOG), ~RUNS.c.pinned)
    return query.order_by(_A.log_sealed_at, _A.run_id, _A.lease_epoch)


def log_bytes_total(connection: Connection) -> int:
    """Bytes that all stored logs take."""
    return int(connection.execute(select(func.coalesce(func.sum(LOG_SEGMENTS.c.stored_bytes), 0))).scalar_one())


def _key(row: AnyRow) -> AttemptKey:
    return AttemptKey(run_id=RunId(row[0]), lease_epoch=row[1])
