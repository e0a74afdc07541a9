"""Whether a round of dispatch says that a run more would change nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from control_plane.domain.ids import RunnerId
from control_plane.lifecycle import placements
from control_plane.lifecycle.attempts import offer
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection
from tests.fakes.cases import spec
from tests.fakes.world import World


async def test_runs_that_wait_for_a_slot_make_it_full(world: World) -> None:
    holder = await world.runner(slots=2)
    ready = {holder.runner_id}
    for _ in range(3):
        await world.submit()
    first = await placements.decide(world.house, ready)
    assert len(first.offers) == 2
    assert first.full
    await offer(world.house, first.offers)
    assert (await placements.decide(world.house, ready)).full


async def test_a_free_slot_or_an_empty_queue_is_not_full(world: World) -> None:
    holder = await world.runner(slots=2)
    assert not (await placements.decide(world.house, {holder.runner_id})).full
    await world.submit()
    assert not (await placements.decide(world.house, {holder.runner_id})).full


async def test_without_a_runner_it_is_full(world: World) -> None:
    await world.runner()
    await world.submit()
    assert (await placements.decide(world.house, set())).full


async def test_a_runner_that_holds_more_than_its_slots_hides_no_free_slot_of_another(world: World) -> None:
    crowded, idle = await world.runner("crowded", slots=4), await world.runner("idle", slots=2)
    for _ in range(4):
        await world.offered(await world.submit(), crowded)
    await world.house.database.write(partial(_shrink, crowded.runner_id, 1))
    for _ in range(20):
        await world.submit(replace(spec(), runner="crowded"))
    fits = await world.submit(replace(spec(), runner="idle"))
    found = await placements.decide(world.house, {crowded.runner_id, idle.runner_id})
    assert [match.run_id for match in found.offers] == [fits.id]
    assert not found.full


def _shrink(runner_id: RunnerId, slots: int, conn: Connection) -> None:
    """It has come back with fewer slots, while its runs go on."""
    runner = reads.runner(conn, runner_id)
    assert runner is not None
    assert writes.save_runner(conn, runner, replace(runner, slots=slots))
