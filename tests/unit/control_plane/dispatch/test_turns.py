"""Turns: in order for one key, side by side for several, and one failure is nobody else's."""

import asyncio

from control_plane.dispatch.turns import Turns
from control_plane.domain.errors import ErrorCode, NotFound


async def test_turns_of_one_key_run_in_order_and_of_others_side_by_side():
    done: list[str] = []
    gate = asyncio.Event()

    async def blocked() -> None:
        await gate.wait()
        done.append("a1")

    def note(word: str):
        async def turn() -> None:
            done.append(word)
            if word == "b1":
                gate.set()

        return turn

    async with asyncio.TaskGroup() as group:
        turns = Turns(group, name="test")
        await turns.take("a", blocked)
        await turns.take("a", note("a2"))
        await turns.take("b", note("b1"))
    assert done == ["b1", "a1", "a2"]


async def test_a_failed_turn_is_a_lost_message_and_the_next_one_runs():
    done: list[str] = []

    async def refused() -> None:
        raise NotFound(ErrorCode.RUN_NOT_FOUND)

    async def broken() -> None:
        raise KeyError("bug")

    async def fine() -> None:
        done.append("fine")

    async with asyncio.TaskGroup() as group:
        turns = Turns(group, name="test")
        for turn in (refused, broken, fine):
            await turns.take("a", turn)
    assert done == ["fine"]


async def test_no_more_than_so_many_wait():
    gate = asyncio.Event()
    taken: list[int] = []

    async def blocked() -> None:
        await gate.wait()

    async with asyncio.TaskGroup() as group:
        turns = Turns(group, name="test", most=2)

        async def feed() -> None:
            for number in range(3):
                await turns.take(number, blocked)
                taken.append(number)
                if number == 1:
                    fed.set()

        fed = asyncio.Event()
        feeder = group.create_task(feed())
        await fed.wait()
        assert taken == [0, 1]
        gate.set()
        await feeder
    assert taken == [0, 1, 2]
