"""A round of dispatch reads the same few rows, and asks the same few questions, however many runs wait at a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from control_plane.domain.concurrency import OnLimit, Place, lane_of
from control_plane.domain.run import RunState
from control_plane.lifecycle import queue
from control_plane.storage import schema, sqlite, writes
from control_plane.storage.prepared import Prepared
from control_plane.storage.shapes import RUN
from control_plane.storage.tables import RUN_PLACES, RUNS
from tests.contract.storage_things import PROJECT_ID, T0, Things
from tests.fakes.clock import FakeClock

PLACE = Place(group="task:t", limit=1, on_limit=OnLimit.QUEUE, name="task t")
LANE = lane_of(PROJECT_ID, (PLACE,))
NOW = T0 + timedelta(days=1)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many statements ran, and how many rows they gave."""
    seen, plain = [0, 0], Prepared.all

    def asked(self, connection, parameters=None):
        rows = plain(self, connection, parameters or {})
        seen[0] += 1
        seen[1] += len(rows)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(Prepared, "all", asked)
        patch.setattr(
            Prepared, "one", lambda self, connection, given=None: next(iter(asked(self, connection, given)), None)
        )
        yield seen


def wait(connection: Connection, things: Things, count: int) -> None:
    runs = [things.run(places=(PLACE,), lane=LANE, priority=100) for _ in range(count)]
    rows = [RUN.values(run, short_id=run.id[-8:]) for run in runs]
    connection.execute(insert(RUNS), rows)
    places = [{"run_id": run.id, "place_group": PLACE.group, "holds": False} for run in runs]
    connection.execute(insert(RUN_PLACES), places)


@pytest.mark.parametrize("others", [0, 1])
def test_many_runs_at_a_limit_cost_a_round_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    engines = sqlite.open_engines(tmp_path / "banksman.db")
    schema.migrate(engines.writer)
    things = Things(FakeClock())
    holder = things.run(places=(PLACE,), lane=LANE)
    with engines.writer.begin() as connection:
        things.foundations(connection)
        writes.insert_run(connection, holder)
        writes.save_run(connection, holder, replace(holder, state=RunState.ASSIGNED))
        for _ in range(others):
            writes.insert_run(connection, things.run(lane=PROJECT_ID))
        costs = []
        for more in (10, 20_000):
            wait(connection, things, more)
            with counted(monkeypatch) as seen:
                front = queue.front(connection, NOW, 64, "")
            assert len(front.runs) == 1 + others
            assert f"run {holder.id} holds it" in front.shut[PLACE.group]
            costs.append(tuple(seen))
        assert costs[0] == costs[1]
    engines.dispose()
