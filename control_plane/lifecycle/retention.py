"""What is kept longer than its project wants: found, and removed in short verbs. Pinned runs and active ones stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from control_plane.domain.errors import ErrorCode, NotFound
from control_plane.domain.ids import AttemptKey, ProjectId, RunId
from control_plane.domain.principal import Caller
from control_plane.domain.project import Retention
from control_plane.domain.run import Run
from control_plane.lifecycle import purges
from control_plane.lifecycle.house import House, require_project
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

RUNS_A_VERB = 50
# So many verbs at most for one project in one sweep: the next one goes on.
VERBS_A_SWEEP = 200
# What a look counts at most, of each kind and project.
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What of a project is to go. `more`: there is more than was counted."""

    project: str
    runs: int
    logs: int
    log_bytes: int
    artifacts: int
    artifact_bytes: int
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A project's edges: what settled before is to go."""

    project_id: ProjectId
    name: str
    runs: datetime
    logs: datetime
    log_bytes: int
    artifacts: datetime


def _policies(conn: Connection, default: Retention, now: datetime) -> Iterator[_Kept]:
    for project_id, name, own in reads.retentions(conn):
        runs_s = own.runs_s if own.runs_s is not None else default.runs_s
        logs_s = own.logs_s if own.logs_s is not None else default.logs_s
        artifacts_s = own.artifacts_s if own.artifacts_s is not None else default.artifacts_s
        yield _Kept(
            project_id=project_id,
            name=name,
            runs=_ago(now, runs_s),
            logs=_ago(now, logs_s),
            log_bytes=own.log_bytes,
            artifacts=_ago(now, artifacts_s),
        )


def _ago(now: datetime, kept_s: float | None) -> datetime:
    return datetime.min.replace(year=1970, tzinfo=now.tzinfo) if kept_s is None else now - timedelta(seconds=kept_s)


async def look(house: House, default: Retention) -> tuple[Garbage, ...]:
    """What a sweep would remove now, for each project that has something."""

    def body(conn: Connection) -> tuple[Garbage, ...]:
        stored = reads.log_bytes_by_project(conn)
        policies = _policies(conn, default, house.clock.now())
        return tuple(_garbage(conn, kept, stored.get(kept.project_id, 0)) for kept in policies)

    return tuple(each for each in await house.database.read(body) if each.runs or each.logs or each.artifacts)


def _garbage(conn: Connection, kept: _Kept, stored_bytes: int) -> Garbage:
    runs = reads.count_old_runs(conn, kept.project_id, kept.runs, MOST_COUNTED)
    logs = _logs_to_go(conn, kept, stored_bytes, MOST_COUNTED)
    files = reads.old_artifacts(conn, kept.project_id, before=kept.artifacts, limit=MOST_COUNTED)
    return Garbage(
        project=kept.name,
        runs=runs,
        logs=len(logs),
        log_bytes=sum(logs.values()),
        artifacts=len(files),
        artifact_bytes=sum(each.size_bytes for each in files),
        more=MOST_COUNTED in (runs, len(logs), len(files)),
    )


def _logs_to_go(conn: Connection, kept: _Kept, stored_bytes: int, limit: int) -> dict[AttemptKey, int]:
    """With their stored bytes: those that are too old, then the oldest of those that are too many."""
    logs = {}
    excess = stored_bytes - kept.log_bytes if kept.log_bytes else 0
    for key, size, sealed_at in reads.oldest_logs_of_project(conn, kept.project_id, limit):
        if excess <= 0 and sealed_at >= kept.logs:
            break
        logs[key] = size
        excess -= size
    return logs


async def logs_to_go(house: House, default: Retention, limit: int) -> tuple[AttemptKey, ...]:
    """Logs that no project wants to keep any longer, oldest first within each; at most `limit` or a few more."""

    def body(conn: Connection) -> tuple[AttemptKey, ...]:
        found: list[AttemptKey] = []
        stored = reads.log_bytes_by_project(conn)
        for kept in _policies(conn, default, house.clock.now()):
            found.extend(_logs_to_go(conn, kept, stored.get(kept.project_id, 0), limit))
            if len(found) >= limit:
                break
        return tuple(found)

    return await house.database.read(body)


async def expire_runs(house: House, default: Retention) -> int:
    """Hide the runs that are too old, as if somebody had deleted them; how many. Their rest is purged behind it."""
    now = house.clock.now()
    policies = await house.database.read(lambda conn: tuple(_policies(conn, default, now)))
    expired = 0
    for kept in policies:
        body = partial(writes.hide_old_runs, project_id=kept.project_id, before=kept.runs, limit=RUNS_A_VERB, at=now)
        for _ in range(VERBS_A_SWEEP):
            part = await house.database.write(body, name="housekeeping.runs")
            expired += part
            if part < RUNS_A_VERB:
                break
    if expired:
        house.watch.notify(purges.TOPIC)
    return expired


async def pin(house: House, caller: Caller, run_id: RunId, *, pinned: bool) -> Run:
    """Keep a run whatever its age, or not any longer. Raises NotFound RUN_NOT_FOUND."""

    def body(conn: Connection) -> Run:
        run = reads.run(conn, run_id)
        if run is None:
            raise NotFound(ErrorCode.RUN_NOT_FOUND)
        require_project(caller, run.project_id)
        writes.pin_run(conn, run_id, pinned=pinned)
        return reads.run(conn, run_id) or run

    return await house.database.write(body, name="runs.pin", after=lambda run: house.watch.notify(f"run:{run.id}"))
