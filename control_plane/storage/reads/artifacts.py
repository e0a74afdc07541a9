"""Reads of the files that runs leave."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, select

from control_plane.domain.artifact import Artifact, ArtifactState
from control_plane.domain.ids import AttemptKey, ProjectId, RunId
from control_plane.domain.pages import Page
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.rows import to_us
from control_plane.storage.shapes import ARTIFACT
from control_plane.storage.tables import ARTIFACTS, ATTEMPTS, RUNS

_ARTIFACTS: Final = select(*ARTIFACT.columns)
_WHOLE: Final = ARTIFACTS.c.state == str(ArtifactState.COMPLETE)


def artifacts_of_attempt(connection: Connection, key: AttemptKey) -> tuple[Artifact, ...]:
    """Also those that are not whole yet."""
    query = _ARTIFACTS.where(ARTIFACTS.c.run_id == key.run_id, ARTIFACTS.c.lease_epoch == key.lease_epoch)
    return tuple([ARTIFACT.entity(row) for row in connection.execute(query.order_by(ARTIFACTS.c.id))])


def artifacts_of_run(connection: Connection, run_id: RunId, limit: int) -> tuple[tuple[Artifact, ...], int]:
    """The whole ones, by attempt and in the order in which they came, and how many there are without the limit."""
    of_run = (ARTIFACTS.c.run_id == run_id, _WHOLE)
    query = _ARTIFACTS.where(*of_run).order_by(ARTIFACTS.c.lease_epoch, ARTIFACTS.c.id).limit(limit)
    found = tuple([ARTIFACT.entity(row) for row in connection.execute(query)])
    if len(found) < limit:
        return found, len(found)
    return found, connection.execute(select(func.count()).select_from(ARTIFACTS).where(*of_run)).scalar_one()


def list_artifacts(connection: Connection, run_id: RunId, request: PageRequest) -> Page[Artifact]:
    """The whole ones, in the order in which they came."""
    return fetch_page(
        connection,
        query=_ARTIFACTS.where(ARTIFACTS.c.run_id == run_id, _WHOLE),
        key=ARTIFACTS.c.id,
        key_of=lambda item: item.id,
        build=ARTIFACT.entity,
        request=request,
        scope=("artifacts", run_id),
        newest_first=False,
    )


def find_artifact(connection: Connection, run_id: RunId, text: str) -> Artifact | None:
    """By id or name; a name means the newest attempt that left it."""
    query = _ARTIFACTS.where(ARTIFACTS.c.run_id == run_id, _WHOLE)
    query = query.where((ARTIFACTS.c.id == text) | (ARTIFACTS.c.name == text))
    row = connection.execute(query.order_by(ARTIFACTS.c.lease_epoch.desc()).limit(1)).first()
    return None if row is None else ARTIFACT.entity(row)


def old_artifacts(
    connection: Connection, project_id: ProjectId, *, before: datetime, limit: int
) -> tuple[Artifact, ...]:
    """The project's whole ones whose run settled before `before`, oldest first; pinned runs keep theirs."""
    query = _ARTIFACTS.join(RUNS, RUNS.c.id == ARTIFACTS.c.run_id)
    query = query.where(RUNS.c.settled_at < to_us(before), RUNS.c.pinned.is_(False))
    query = query.where(ARTIFACTS.c.project_id == project_id, ARTIFACTS.c.created_at < to_us(before), _WHOLE)
    query = query.order_by(ARTIFACTS.c.created_at, ARTIFACTS.c.id).limit(limit)
    return tuple([ARTIFACT.entity(row) for row in connection.execute(query)])


def artifacts_overdue(connection: Connection, now: datetime, limit: int) -> tuple[AttemptKey, ...]:
    """Attempts whose artifacts were awaited until `now` or earlier, longest first."""
    query = select(ATTEMPTS.c.run_id, ATTEMPTS.c.lease_epoch).where(ATTEMPTS.c.artifacts_due_at <= to_us(now))
    rows = connection.execute(query.order_by(ATTEMPTS.c.artifacts_due_at).limit(limit))
    return tuple([AttemptKey(run_id=RunId(row[0]), lease_epoch=row[1]) for row in rows])
