"""What a firing costs: no read of its own, one verb, and few statements, so that a thousand at once are soon fired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event

from control_plane.domain.schedule import FiringOrigin, ScheduleDraft
from control_plane.lifecycle import schedules
from control_plane.scheduling.scheduler import Scheduler
from control_plane.storage.prepared import Prepared
from tests.fakes.world import World
from tests.unit.control_plane.scheduling.test_scheduler import HandAlarms

MANY = 300
# The schedule, its task, the instant's key, active runs, the spec's row, the project's limit, the run, its tags, its
# event, the firing's run, the schedule's next instant; and the savepoint around them.
MOST_STATEMENTS = 14


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "state")
    await made.settle_in()
    yield made
    await made.house.database.close()


async def due(world: World, count: int) -> list[str]:
    """So many schedules that are due at the same moment, which is now."""
    task = await world.task(name="many times")
    drafts = [ScheduleDraft(task=task.id, name=f"s{number}", every_s=3_600.0) for number in range(count)]
    made = [await schedules.create(world.house, world.caller(), world.project_id, draft) for draft in drafts]
    world.clock.advance(3_600.0)
    return [schedule.id for schedule in made]


async def test_many_at_once_are_fired_without_a_read_for_each(world: World) -> None:
    names, alarms = await due(world, MANY), HandAlarms()
    scheduler = Scheduler(world.house, alarms=alarms)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(scheduler.run(), name="scheduler")
        await alarms.until(lambda armed: len(armed) == MANY)
        before = world.house.database.statistics()
        for name in names:
            alarms.ring(name)
        # Armed anew: all have been fired, and their next instants are far away.
        await alarms.until(lambda armed: not armed and not scheduler.busy)
        after = world.house.database.statistics()
        task.cancel()
    assert after.by_name["schedules.fire"] == MANY
    assert after.verbs - before.verbs == MANY
    # What is armed is read again while they fire, now and then.
    assert after.reads - before.reads < MANY / 2


async def test_a_firing_takes_few_statements(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await due(world, 2)
    at = world.clock.now()
    await schedules.fire(world.house, first, at, FiringOrigin.SCHEDULE)  # what is compiled and cached once
    seen: list[str] = []
    run = Prepared.run

    def recorded(prepared, connection, parameters=None):
        seen.append(prepared.bound(connection.dialect, parameters or {})[0])
        return run(prepared, connection, parameters or {})

    monkeypatch.setattr(Prepared, "run", recorded)
    engine = world.house.database._connection.engine
    event.listen(engine, "before_cursor_execute", lambda conn, cursor, sql, *more: seen.append(f"built: {sql}"))
    fired = await schedules.fire(world.house, second, at, FiringOrigin.SCHEDULE)
    assert fired is not None
    statements = [sql for sql in seen if not sql.startswith("built: BEGIN")]
    assert [sql for sql in statements if sql.startswith("built: ")] == [], "all are compiled once"
    assert len(statements) <= MOST_STATEMENTS, statements
