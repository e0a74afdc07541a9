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
from control_plane.storage.prepared import Prepared
from control_plane.storage.shapes import RUNNER
from control_plane.storage.tables import ATTEMPTS, RUNNERS
from control_plane.storage.tables.runs import LIVE_ATTEMPT

_RUNNERS: Final = select(*RUNNER.columns)
_RUNNER: Final = Prepared(_RUNNERS.where(RUNNERS.c.id == bindparam("id")))
_FIND_RUNNER: Final = Prepared(
    _RUNNERS.where(or_(RUNNERS.c.id == bindparam("text"), RUNNERS.c.name == bindparam("text")))
)
_ALL: Final = Prepared(_RUNNERS.where(RUNNERS.c.revoked_at.is_(None)).order_by(RUNNERS.c.name))
_LIVE: Final = select(ATTEMPTS.c.runner_id, ATTEMPTS.c.run_id, ATTEMPTS.c.slots).where(text(LIVE_ATTEMPT))
_HELD: Final = Prepared(_LIVE)
_HELD_BY_ONE: Final = Prepared(_LIVE.where(ATTEMPTS.c.runner_id == bindparam("runner_id")))


def runner(connection: Connection, runner_id: RunnerId) -> Runner | None:
    row = _RUNNER.one(connection, {"id": runner_id})
    return None if row is None else _with_held(connection, [RUNNER.entity(row)])[0]


def find_runner(connection: Connection, id_or_name: str) -> Runner | None:
    row = _FIND_RUNNER.one(connection, {"text": id_or_name})
    return None if row is None else _with_held(connection, [RUNNER.entity(row)])[0]


def runners(connection: Connection) -> tuple[Runner, ...]:
    """All that are not revoked, by name: what placement chooses from."""
    return _with_held(connection, [RUNNER.entity(row) for row in _ALL.all(connection)])


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
    held = _HELD_BY_ONE.all(connection, {"runner_id": found[0].id}) if len(found) == 1 else _HELD.all(connection)
    for runner_id, run_id, taken in sorted(tuple(row) for row in held):
        runs[runner_id].append(RunId(run_id))
        slots[runner_id] += taken
    return tuple(replace(item, held_run_ids=tuple(runs[item.id]), slots_used=slots[item.id]) for item in found)
