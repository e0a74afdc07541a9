"""Offers behind the verb that made them possible: in its transaction, by a round's rules, and only what is plain."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Coroutine, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.dispatch.dispatcher import Dispatcher
from control_plane.dispatch.sessions import LiveSession, Sessions
from control_plane.domain.ids import Holder, RunId, RunnerId
from control_plane.domain.placement import Placement
from control_plane.domain.run import Run, RunState
from control_plane.domain.session import ExitOutcome, ExitRecord, Offer
from control_plane.lifecycle import placements, prompt_offers
from control_plane.lifecycle.house import House
from control_plane.storage.following import Stir
from tests.fakes.cases import spec
from tests.fakes.world import World

FAILED = ExitRecord(outcome=ExitOutcome.ENDED_BADLY, exit_code=1, tree_empty=True)
ENDED = ExitRecord(outcome=ExitOutcome.ENDED_WELL, exit_code=0, tree_empty=True)


class Served:
    """A dispatcher behind the verbs of a world, and whether it asked for a round of its own."""

    def __init__(self, world: World) -> None:
        self.world, self.sessions = world, Sessions(most=10)
        self.dispatcher = Dispatcher(world.house, self.sessions)
        self.asked = world.house.watch.subscribe("queue")

    async def runner(self, name: str = "r1", slots: int = 1) -> Holder:
        holder = await self.world.runner(name, slots=slots)
        session = LiveSession(holder, put=lambda message, log: True, end=lambda goodbye: None)
        session.welcomed = True
        self.sessions.open(session)
        return holder

    def offered(self) -> list[tuple[RunnerId, RunId]]:
        """Whom what was offered, in order."""
        return [(to, message.key.run_id) for to, message in self.world.posted if isinstance(message, Offer)]

    def commits(self) -> int:
        return self.world.house.database.statistics().commits


@pytest.fixture
def served(world: World) -> Iterator[Served]:
    made = Served(world)
    with made.asked, made.dispatcher.following():
        yield made


async def test_a_new_run_is_offered_in_the_transaction_that_queues_it(world: World, served: Served) -> None:
    holder = await served.runner()
    before = served.commits()
    run = await world.submit()
    assert served.commits() == before + 1
    assert served.offered() == [(holder.runner_id, run.id)]
    assert (await world.stored(run.id)).state is RunState.ASSIGNED
    assert await world.kinds(run.id) == ["CREATED", "OFFERED"]
    assert not served.asked.take()


async def test_an_exit_offers_the_next_run_in_its_transaction(world: World, served: Served) -> None:
    holder = await served.runner()
    first, second = await world.submit(), await world.submit()
    assert served.asked.take()
    await served.dispatcher.round()
    assert served.dispatcher.waiting_because(second) == "All matching runners are busy (r1)."
    key = world.offer().key
    await world.accept(key, holder)
    before = served.commits()
    await world.exited(key, holder, ENDED)
    assert served.commits() == before + 1
    assert served.offered() == [(holder.runner_id, first.id), (holder.runner_id, second.id)]
    assert served.dispatcher.waiting_because(second) == ""


async def test_nothing_is_looked_at_while_no_slot_is_free_or_no_run_waits(world: World, served: Served) -> None:
    holder = await served.runner()
    await world.submit()
    key = world.offer().key
    await world.accept(key, holder)
    looked = []
    look = prompt_offers.queue.short_front

    def counted(*arguments: object) -> object:
        looked.append(arguments)
        return look(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt_offers.queue, "short_front", counted)
        await world.exited(key, holder, ENDED)
        assert not looked
        assert not served.asked.take()
        await world.submit()
        assert len(looked) == 1
        await world.submit()
        # A round is to say why it waits.
        assert len(looked) == 1
        assert served.asked.take()
        await world.exited(world.offer().key, holder, ENDED)
        assert len(looked) == 2


async def test_what_is_not_plain_is_left_to_a_round(world: World, served: Served) -> None:
    await served.runner()
    later = world.clock.now() + timedelta(seconds=30)
    await world.submit(not_before=later)
    assert served.asked.take()
    await world.runner("away")
    await world.submit(replace(spec(), runner="away"))
    assert served.asked.take()
    plain = await world.submit()
    assert [run_id for _, run_id in served.offered()] == [plain.id]


@pytest.mark.parametrize("most", ["MOST_RUNNERS", "MOST_LANES"])
async def test_a_large_house_is_left_to_a_round(
    world: World, served: Served, monkeypatch: pytest.MonkeyPatch, most: str
) -> None:
    monkeypatch.setattr(prompt_offers, most, 0)
    await served.runner()
    await world.submit()
    assert not served.offered()
    assert served.asked.take()


async def test_where_many_runs_are_not_due_a_round_looks_for_those_that_are(
    world: World, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_offers.queue, "NOT_DUE", 1)
    holder = await served.runner(slots=2)
    later = world.clock.now() + timedelta(seconds=30)
    await world.submit(not_before=later)
    first = await world.submit()
    await world.submit(not_before=later)
    served.asked.take()
    second = await world.submit()
    assert served.offered() == [(holder.runner_id, first.id)]
    assert served.asked.take()
    await served.dispatcher.round()
    assert served.offered()[1:] == [(holder.runner_id, second.id)]


async def test_a_run_that_may_live_elsewhere_is_not_offered_at_once(world: World, served: Served) -> None:
    holder = await served.runner()
    world.house.withheld[holder.runner_id] = frozenset({RunId("x")})
    await world.submit()
    assert not served.offered()
    assert served.asked.take()


async def test_who_is_not_there_or_drains_is_offered_nothing(world: World, served: Served) -> None:
    await world.runner("away")
    drains = await served.runner("drains")
    session = served.sessions.get(drains.runner_id)
    assert session is not None
    session.draining = True
    run = await world.submit()
    assert not served.offered()
    assert served.dispatcher.waiting_because(run)


async def test_a_refused_report_offers_what_is_free_all_the_same(world: World, served: Served) -> None:
    first = await served.runner("r1")
    await world.submit()
    second = await world.submit()
    await served.runner("r2")
    stranger = Holder(runner_id=first.runner_id, state_directory_id="another")
    await world.exited(world.offer().key, stranger, ENDED)
    assert served.offered()[-1][1] == second.id


async def test_trouble_in_it_undoes_itself_only_and_asks_for_a_round(
    world: World, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.runner()
    offer_in = prompt_offers.offer_in

    def broken(*arguments: object) -> None:
        offer_in(*arguments)  # type: ignore[arg-type]
        raise RuntimeError("after it wrote")

    monkeypatch.setattr(prompt_offers, "offer_in", broken)
    run = await world.submit()
    assert (await world.stored(run.id)).state is RunState.QUEUED
    assert not served.offered()
    assert served.asked.take()
    monkeypatch.undo()
    another = await world.submit()
    assert [run_id for _, run_id in served.offered()] == [run.id]
    assert (await world.stored(another.id)).state is RunState.QUEUED


async def test_an_exit_that_queues_its_run_again_asks_for_a_round(world: World, served: Served) -> None:
    holder = await served.runner()
    run = await world.submit(spec(max_attempts=2))
    key = world.offer().key
    await world.accept(key, holder)
    await world.exited(key, holder, FAILED)
    assert (await world.stored(run.id)).state is RunState.QUEUED
    assert served.asked.take()


class Reading:
    """Rounds that have read the queue, and are not told yet what was in it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._read, self._told = asyncio.Event(), asyncio.Event()
        decide = placements.decide

        async def slow(house: House, ready: Container[RunnerId], draining: Container[RunnerId]) -> Placement:
            placement = await decide(house, ready, draining)
            self._read.set()
            await self._told.wait()
            return placement

        patch.setattr(placements, "decide", slow)

    async def over(self, served: Served, meanwhile: Coroutine[None, None, Run | None]) -> Run | None:
        """A round, with something that happens behind its look."""
        async with asyncio.TaskGroup() as group:
            group.create_task(served.dispatcher.round(), name="round")
            await self._read.wait()
            found = await meanwhile
            self._told.set()
        return found


async def test_a_round_that_is_overtaken_takes_no_queue_for_empty(
    world: World, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await Reading(monkeypatch).over(served, world.submit())
    assert run is not None
    assert not served.asked.take()
    assert served.dispatcher.waiting_because(run) == "No runner is enrolled."
    served.dispatcher.followed(Stir.SLOT, None, None)
    assert served.asked.take()


async def test_a_slot_that_is_freed_while_a_round_looks_is_not_lost(
    world: World, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_offers, "MOST_LANES", 0)
    holder = await served.runner()
    await world.submit()
    await served.dispatcher.round()
    key = world.offer().key
    await world.accept(key, holder)
    await served.dispatcher.round()
    await world.submit()
    assert served.asked.take()
    await Reading(monkeypatch).over(served, world.exited(key, holder, ENDED))
    assert served.asked.take()
