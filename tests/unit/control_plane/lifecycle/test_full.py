"""Whether a round of dispatch says that a run more would change nothing."""

from __future__ import annotations

from control_plane.lifecycle import placements
from control_plane.lifecycle.attempts import offer
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
