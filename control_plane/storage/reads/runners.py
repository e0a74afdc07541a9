"""Reads of runners, with what they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, bindparam, or_, select, text, union

from control_plane.domain.attempt import AttemptState
from control_plane.domain.ids import RunId, RunnerId
from control_plane.domain.pages import Page
from control_plane.domain.runner import Runner, RunnerAttempt
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.prepared import Prepared
from control_plane.storage.rows import at_or_none
from control_plane.storage.shapes import RUNNER
from control_plane.storage.tables import ATTEMPTS, RUNNERS
from control_plane.storage.tables.runs import LIVE_ATTEMPT, UNSEALED_ATTEMPT

_RUNNERS: Final = select(*RUNNER.columns)
_RUNNER: Final = Prepared(_RUNNERS.where(RUNNERS.c.id == bindparam("id")))
_FIND_RUNNER: Final = Prepared(
    _RUNNERS.where(or_(RUNNERS.c.id == bindparam("text"), RUNNERS.c.name == bindparam("text")))
)
_ALL: Final = Prepared(
    _RUNNERS.where(RUNNERS.c.revoked_at.is_(None)).order_by(RUNNERS.c.name).limit(bindparam("limit", -1))
)
# Placing asks for all of them again and again, and few of their rows have changed.
_read: Final = lru_cache(maxsize=16_384)(RUNNER.entity)
_LIVE: Final = select(ATTEMPTS.c.runner_id, ATTEMPTS.c.run_id, ATTEMPTS.c.slots).where(text(LIVE_ATTEMPT))
_HELD: Final = Prepared(_LIVE)
_THERE_COLUMNS: Final = select(
    *(ATTEMPTS.c.run_id, ATTEMPTS.c.lease_epoch, ATTEMPTS.c.state, ATTEMPTS.c.log_sealed_at, ATTEMPTS.c.assigned_at)
)
_THERE: Final = Prepared(
    # Each half by its own index.
    union(
        _THERE_COLUMNS.where(text(LIVE_ATTEMPT), ATTEMPTS.c.runner_id == bindparam("runner_id")),
        _THERE_COLUMNS.where(text(UNSEALED_ATTEMPT), ATTEMPTS.c.runner_id == bindparam("runner_id")),
    )
    .order_by("run_id", "lease_epoch")
    .limit(500)
)
_HELD_BY_ONE: Final = Prepared(_LIVE.where(ATTEMPTS.c.runner_id == bindparam("runner_id")))


def runner(connection: Connection, runner_id: RunnerId) -> Runner | None:
    row = _RUNNER.one(connection, {"id": runner_id})
    return None if row is None else _with_held(connection, [RUNNER.entity(row)])[0]


def find_runner(connection: Connection, id_or_name: str) -> Runner | None:
    row = _FIND_RUNNER.one(connection, {"text": id_or_name})
    return None if row is None else _with_held(connection, [RUNNER.entity(row)])[0]


def runners(connection: Connection) -> tuple[Runner, ...]:
    """All that are not revoked, by name: what placement chooses from."""
    return _with_held(connection, [_read(row) for row in _ALL.all(connection)])


def few_runners(connection: Connection, most: int) -> tuple[Runner, ...] | None:
    """The same, if they are not more than so many."""
    rows = _ALL.all(connection, {"limit": most + 1})
    return None if len(rows) > most else _with_held(connection, [_read(row) for row in rows])


def list_runners(connection: Connection, request: PageRequest, *, include_revoked: bool = False) -> Page[Runner]:
    """By name."""
    query = _RUNNERS if include_revoked else _RUNNERS.where(RUNNERS.c.revoked_at.is_(None))
    page = fetch_page(
        connection,
        query=query,
        key=RUNNERS.c.name,
        key_of=lambda item: item.name,
        build=RUNNER.entity,
        request=request,
        scope=("runners", include_revoked),
    )
    return replace(page, items=_with_held(connection, page.items))


def runner_attempts(connection: Connection, runner_id: RunnerId) -> tuple[RunnerAttempt, ...]:
    """What is live there, or still owes its log; at most 500, oldest first."""
    return tuple(
        RunnerAttempt(
            run_id=RunId(run_id),
            lease_epoch=lease_epoch,
            state=AttemptState(state),
            log_sealed=sealed_at is not None,
            accepted_at=at_or_none(accepted_at),
        )
        for run_id, lease_epoch, state, sealed_at, accepted_at in _THERE.all(connection, {"runner_id": runner_id})
    )


def _with_held(connection: Connection, found: Sequence[Runner]) -> tuple[Runner, ...]:
    """The same runners with the runs and slots of their live attempts."""
    runs: defaultdict[str, list[RunId]] = defaultdict(list)
    slots: defaultdict[str, int] = defaultdict(int)
    held = _HELD_BY_ONE.all(connection, {"runner_id": found[0].id}) if len(found) == 1 else _HELD.all(connection)
    for runner_id, run_id, taken in sorted(tuple(row) for row in held):
        runs[runner_id].append(RunId(run_id))
        slots[runner_id] += taken
    # Most of ten thousand hold nothing, and are as they were read.
    return tuple(
        replace(item, held_run_ids=tuple(runs[item.id]), slots_used=slots[item.id]) if item.id in runs else item
        for item in found
    )
