"""Limits in the transaction that offers: stale rounds, returned and retried runs, restarts and forced cancels."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_plane.domain.concurrency import ConcurrencyLimit, LimitScope, OnLimit
from control_plane.domain.errors import BanksmanError, ErrorCode
from control_plane.domain.ids import Holder
from control_plane.domain.placement import Match
from control_plane.domain.project import Project
from control_plane.domain.run import RunState
from control_plane.domain.spec import RunSpec
from control_plane.domain.stops import CancelOrder
from control_plane.lifecycle import attempts, projects, runs
from control_plane.storage import reads
from tests.fakes.cases import spec
from tests.fakes.world import World


def limited(count: int, on_limit: OnLimit = OnLimit.QUEUE, key: str = "k") -> RunSpec:
    limit = ConcurrencyLimit(limit=count, key=key, scope=LimitScope.PROJECT, on_limit=on_limit)
    return replace(spec(), concurrency=(limit,))


async def test_a_round_that_knows_too_little_passes_no_limit(world: World) -> None:
    holder = await world.runner(slots=9)
    made = [await world.submit(limited(2)) for _ in range(6)]
    stale = [Match(run_id=run.id, runner_id=holder.runner_id) for run in made]
    found = await asyncio.gather(attempts.offer(world.house, stale[:3]), attempts.offer(world.house, stale[3:]))
    assert sum(len(keys) for keys in found) == 2


async def test_a_projects_limit_is_checked_in_the_offer_too(world: World) -> None:
    change = projects.ProjectChange(concurrency=ConcurrencyLimit(limit=1))
    project: Project = await projects.update(world.house, world.project_id, change)
    assert project.concurrency == ConcurrencyLimit(limit=1)
    holder = await world.runner(slots=9)
    made = [await world.submit() for _ in range(3)]
    stale = [Match(run_id=run.id, runner_id=holder.runner_id) for run in made]
    assert len(await attempts.offer(world.house, stale)) == 1
    assert "the whole project" in (await world.place(holder))[made[1].id]


async def test_places_outlive_a_restart_and_a_forced_cancel_frees_them(world: World, holder: Holder) -> None:
    first, second = await world.submit(limited(1)), await world.submit(limited(1))
    await world.running(first, holder)
    await world.restart()
    assert f"run {first.id} holds it" in (await world.place(holder))[second.id]
    await runs.cancel(world.house, world.caller(), first.id, CancelOrder())
    assert second.id in await world.place(holder), "a run that is being cancelled holds its place"
    await runs.cancel(world.house, world.caller(), first.id, CancelOrder(), force=True)
    assert await world.place(holder) == {}


async def test_a_refused_offer_gives_the_place_back(world: World, holder: Holder) -> None:
    run = await world.submit(limited(1))
    other = await world.runner("r2")
    key = await world.offered(run, holder)
    await attempts.withdraw_offers(world.house, holder.runner_id, "it drains")
    assert (await world.offered(run, other)).lease_epoch > key.lease_epoch


async def test_what_is_over_leaves_no_row_behind(world: World, holder: Holder) -> None:
    made = [await world.submit(limited(1)) for _ in range(3)]
    await world.running(made[0], holder)
    for run in made:
        await runs.cancel(world.house, world.caller(), run.id, CancelOrder(), force=True)

    def count(conn) -> int:
        return conn.exec_driver_sql("SELECT count(*) FROM run_places").scalar_one()

    assert await world.house.database.read(count) == 0


async def test_a_retry_by_hand_is_a_run_like_others(world: World) -> None:
    first = await world.submit(limited(1, OnLimit.REJECT))
    await runs.cancel(world.house, world.caller(), first.id, CancelOrder())
    held = await world.submit(limited(1, OnLimit.REJECT))
    with pytest.raises(BanksmanError) as caught:
        await runs.retry(world.house, world.caller(), first.id)
    assert (caught.value.code, caught.value.metadata["run"]) == (ErrorCode.LIMIT_REACHED, held.id)


async def test_a_superseding_run_changes_nothing_when_it_is_refused(world: World) -> None:
    victim = await world.submit(limited(1, OnLimit.CANCEL_RUNNING, key="v"))
    await world.submit(limited(1, OnLimit.REJECT, key="k"))
    both = replace(
        spec(),
        concurrency=(
            *limited(1, OnLimit.CANCEL_RUNNING, key="v").concurrency,
            *limited(1, OnLimit.REJECT, key="k").concurrency,
        ),
    )
    with pytest.raises(BanksmanError):
        await world.submit(both)
    found = await world.house.database.read(lambda conn: reads.run(conn, victim.id))
    assert found is not None
    assert found.state is RunState.QUEUED


async def test_priority_counts_before_turns_and_age(world: World) -> None:
    holder = await world.runner(slots=1)
    for key in "abc":
        await world.submit(limited(1, key=key))
    urgent = await world.submit(replace(limited(1, key="z"), priority=9))
    await world.place(holder)
    found = await world.house.database.read(lambda conn: reads.run(conn, urgent.id))
    assert found is not None
    assert found.state is RunState.ASSIGNED
