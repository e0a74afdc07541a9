"""What a caller typed, turned into the thing: ids, names, short ids, "@last". Raises NotFound otherwise."""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import Connection, select

from control_plane.domain.errors import ErrorCode, InvalidArgument, NotFound
from control_plane.domain.ids import PrincipalId, ProjectId, RunId
from control_plane.domain.principal import Principal
from control_plane.domain.project import Project
from control_plane.domain.run import Run
from control_plane.domain.runner import Runner
from control_plane.domain.schedule import Schedule
from control_plane.domain.task import Task
from control_plane.storage.reads.access import find_principal, find_project
from control_plane.storage.reads.runners import find_runner
from control_plane.storage.reads.runs import run
from control_plane.storage.reads.schedules import find_schedule
from control_plane.storage.reads.tasks import find_task
from control_plane.storage.shapes import RUN
from control_plane.storage.tables import RUNS

LAST: Final = "@last"
SHORT_ID_DIGITS: Final = 8
# More than so many candidates are not named.
_CANDIDATES: Final = 10

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HEX: Final = re.compile(rf"[0-9a-f]{{{SHORT_ID_DIGITS},32}}")


def the_run(connection: Connection, text: str, *, project_id: ProjectId | None, principal_id: PrincipalId) -> Run:
    """By id, by the last 8 or more hex digits of one, or "@last": the newest that `principal_id` made.

    With a project, only its runs count. Raises NotFound RUN_NOT_FOUND, InvalidArgument AMBIGUOUS_ID.
    """
    found = find_run(connection, text, project_id=project_id, principal_id=principal_id)
    if found is None:
        raise no_run(text)
    return found


def no_run(text: str) -> NotFound:
    """The same for one that is not there and for one that the caller may not see."""
    return NotFound(ErrorCode.RUN_NOT_FOUND, f"There is no run {text!r}.", hint="banksman run list")


def find_run(
    connection: Connection, text: str, *, project_id: ProjectId | None, principal_id: PrincipalId
) -> Run | None:
    """As the_run, but None when there is none."""
    wanted = text.strip().lower()
    if wanted == LAST:
        return _newest_of(connection, principal_id, project_id)
    if not _UUID.fullmatch(wanted):
        return _by_suffix(connection, text, wanted.replace("-", ""), project_id)
    found = run(connection, RunId(wanted))
    return found if found is None or project_id in (None, found.project_id) else None


def _newest_of(connection: Connection, principal_id: PrincipalId, project_id: ProjectId | None) -> Run | None:
    query = select(*RUN.columns).where(RUNS.c.created_by == principal_id, RUNS.c.hidden_at.is_(None))
    if project_id is not None:
        query = query.where(RUNS.c.project_id == project_id)
    row = connection.execute(query.order_by(RUNS.c.id.desc()).limit(1)).first()
    return None if row is None else RUN.entity(row)


def _by_suffix(connection: Connection, text: str, digits: str, project_id: ProjectId | None) -> Run | None:
    if not _HEX.fullmatch(digits):
        return None
    is_it = RUNS.c.short_id == digits[-SHORT_ID_DIGITS:]
    query = select(*RUN.columns).where(is_it, RUNS.c.hidden_at.is_(None))
    if project_id is not None:
        query = query.where(RUNS.c.project_id == project_id)
    rows = connection.execute(query.order_by(RUNS.c.id).limit(1000))
    found = [item for row in rows if (item := RUN.entity(row)).id.replace("-", "").endswith(digits)]
    if len(found) > 1:
        named = ", ".join(item.id for item in found[:_CANDIDATES])
        raise InvalidArgument(
            ErrorCode.AMBIGUOUS_ID,
            f"{len(found)} runs end with {text!r}: {named}.",
            metadata={"candidates": ",".join(item.id for item in found[:_CANDIDATES])},
            hint="Give more digits, or the whole id.",
        )
    return found[0] if found else None


def the_project(connection: Connection, id_or_name: str) -> Project:
    """Empty means "default". Raises NotFound PROJECT_NOT_FOUND."""
    found = find_project(connection, id_or_name)
    if found is None:
        raise no_project(id_or_name)
    return found


def no_project(id_or_name: str) -> NotFound:
    """The same for one that is not there and for one that the caller may not see."""
    return NotFound(ErrorCode.PROJECT_NOT_FOUND, f"There is no project {id_or_name!r}.", hint="banksman project list")


def the_task(connection: Connection, project_id: ProjectId, id_or_name: str) -> Task:
    """Raises NotFound TASK_NOT_FOUND."""
    found = find_task(connection, project_id, id_or_name)
    if found is None:
        raise no_task(id_or_name)
    return found


def no_task(id_or_name: str) -> NotFound:
    """The same for one that is not there and for one that the caller may not see."""
    return NotFound(ErrorCode.TASK_NOT_FOUND, f"There is no task {id_or_name!r}.", hint="banksman task list")


def the_schedule(connection: Connection, project_id: ProjectId, id_or_name: str) -> Schedule:
    """Raises NotFound SCHEDULE_NOT_FOUND."""
    found = find_schedule(connection, project_id, id_or_name)
    if found is None:
        raise no_schedule(id_or_name)
    return found


def no_schedule(id_or_name: str) -> NotFound:
    """The same for one that is not there and for one that the caller may not see."""
    text = f"There is no schedule {id_or_name!r}."
    return NotFound(ErrorCode.SCHEDULE_NOT_FOUND, text, hint="banksman schedule list")


def the_runner(connection: Connection, id_or_name: str) -> Runner:
    """Also a revoked one. Raises NotFound RUNNER_NOT_FOUND."""
    found = find_runner(connection, id_or_name)
    if found is None:
        raise NotFound(ErrorCode.RUNNER_NOT_FOUND, f"There is no runner {id_or_name!r}.", hint="banksman runner list")
    return found


def the_principal(connection: Connection, id_or_name: str) -> Principal:
    """Raises NotFound PRINCIPAL_NOT_FOUND."""
    found = find_principal(connection, id_or_name)
    if found is None:
        raise NotFound(ErrorCode.PRINCIPAL_NOT_FOUND, f"There is no principal {id_or_name!r}.")
    return found
