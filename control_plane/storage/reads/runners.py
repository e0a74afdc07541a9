"""Reads of runners, with what they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, bindparam, or_, select, text

from control_plane.domain.ids import RunId, RunnerId
from control_plane.domain.pages import Page
from control_plane.domain.runner import Runner
from control_plane.storage.paging import PageRequest, fetch_page
from control_plane.storage.shapes import RUNNER
from control_plane.storage.tables import ATTEMPTS, RUNNERS
from control_plane.storage.tables.runs import LIVE_ATTEMPT

_RUNNERS: Final = select(*RUNNER.columns)
_RUNNER: Final = _RUNNERS.where(RUNNERS.c.id == bindparam("id"))
_FIND_RUNNER: Final = _RUNNERS.where(or_(RUNNERS.c.id == bindparam("text"), RUNNERS.c.name == bindparam("text")))
_ALL: Final = _RUNNERS.where(RUNNERS.c.revoked_at.is_(None)).order_by(RUNNERS.c.name)
_HELD: Final = (
    select(ATTEMPTS.c.runner_id, ATTEMPTS.c.run_id, ATTEMPTS.c.slots)
    .where(text(LIVE_ATTEMPT))
    .order_by(ATTEMPTS.c.run_id)
)
_HELD_BY_ONE: Final = _HELD.where(ATTEMPTS.c.runner_id == bindparam("runner_id"))


def runner(connection: Connection, runner_id: RunnerId) -> Runner | None:
    row = connection.execute(_RUNNER, {"id": runner_id}).first()
    return None if row is None else _with_held(connection, [RUNNER.entity(row)])[0]


def find_runner(connection: Connection, id_or_name: str) -> Runner | None:
    row = connection.execute(_FIND_RUNNER, {"text": id_or_name}).first()
    return None if row is None else _with_held(connection, [RUNNER.entity(row)])[0]


def runners(connection: Connection) -> tuple[Runner, ...]:
    """All that are not revoked, by name: what placement chooses from."""
    return _with_held(connection, [RUNNER.entity(row) for row in connection.execute(_ALL)])


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


def _with_held(connection: Connection, found: Sequence[Runner]) -> tuple[Runner, ...]:
    """The same runners with the runs and slots of their live attempts."""
    runs: defaultdict[str, list[RunId]] = defaultdict(list)
    slots: defaultdict[str, int] = defaultdict(int)
    if len(found) == 1:
        held = connection.execute(_HELD_BY_ONE, {"runner_id": found[0].id})
    else:
        held = connection.execute(_HELD)
    for row in held:
        runs[row.runner_id].append(RunId(row.run_id))
        slots[row.runner_id] += row.slots
    return tuple(replace(item, held_run_ids=tuple(runs[item.id]), slots_used=slots[item.id]) for item in found)
