"""When dispatch looks at the queue: at once where it matters, together where it does not, never for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from control_plane.dispatch.dispatcher import Dispatcher
from control_plane.dispatch.sessions import Sessions
from control_plane.lifecycle.prompt_offers import Prompt
from control_plane.storage.following import Stir
from tests.fakes.world import World
from tests.waiting import wait_for_async


class Counted(Dispatcher):
    """Tells how often it has looked: in rounds, and behind verbs."""

    rounds = 0

    def followed(self, stirs: Stir, prompt: Prompt | None, error: BaseException | None) -> None:
        super().followed(stirs, prompt, error)
        self.rounds += prompt is not None

    async def round(self) -> float:
        pause_s = await super().round()
        self.rounds += 1
        return pause_s

    async def at_least(self, rounds: int) -> None:
        async def there() -> bool:
            return self.rounds >= rounds

        await wait_for_async(there, what=f"{rounds} rounds of dispatch; there were {self.rounds}")


@asynccontextmanager
async def dispatching(world: World) -> AsyncIterator[Counted]:
    dispatcher = Counted(world.house, Sessions(most=10))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(dispatcher.run(), name="dispatcher")
        await dispatcher.at_least(1)
        yield dispatcher
        task.cancel()


async def test_nothing_but_a_new_run_is_looked_at_while_no_run_waits(world: World) -> None:
    async with dispatching(world) as dispatcher:
        for _ in range(5):
            world.house.watch.notify("queue", "slots")
            await world.house.database.read(lambda _: None)
        assert dispatcher.rounds == 1
        run = await world.submit()
        await dispatcher.at_least(2)
        assert dispatcher.waiting_because(run)


async def test_a_slot_wakes_and_new_runs_are_seen_while_all_are_taken(world: World) -> None:
    async with dispatching(world) as dispatcher:
        await world.submit()
        await dispatcher.at_least(2)
        newest = await world.submit()
        await dispatcher.at_least(3)
        assert dispatcher.waiting_because(newest)
        world.house.watch.notify("queue", "slots")
        await dispatcher.at_least(4)


async def test_a_round_that_failed_is_made_again_for_any_reason(world: World) -> None:
    class Broken(Counted):
        async def round(self) -> float:
            pause_s = await super().round()
            if self.rounds == 3:
                raise RuntimeError("once")
            return pause_s

    dispatcher = Broken(world.house, Sessions(most=10))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(dispatcher.run(), name="dispatcher")
        await dispatcher.at_least(1)
        await world.submit()
        await dispatcher.at_least(2)
        for rounds in (3, 4):
            world.house.watch.notify("queue", "slots")
            await dispatcher.at_least(rounds)
        task.cancel()
