"""Work in batches: what comes while the thread is busy is done together, and each is answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from runner_agent.execution.batches import Batches


async def test_what_waits_is_done_together_and_answered_in_order() -> None:
    begun, go_on = threading.Event(), threading.Event()
    batches: list[list[int]] = []

    def work(items: Sequence[int]) -> list[str]:
        batches.append(list(items))
        begun.set()
        go_on.wait(30)
        return [f"done {item}" for item in items]

    made: Batches[int, str] = Batches("test", work)
    answers: list[str] = []
    over = asyncio.Event()

    def done(answer: str) -> None:
        answers.append(answer)
        if len(answers) == 5:
            over.set()

    made.put(0, done)
    await asyncio.to_thread(begun.wait, 30)
    for item in range(1, 5):
        made.put(item, done)
    go_on.set()
    async with asyncio.timeout(30):
        await over.wait()
    assert batches == [[0], [1, 2, 3, 4]]
    assert answers == [f"done {item}" for item in range(5)]
    made.close()


async def test_after_the_close_nothing_begins_and_nobody_is_told() -> None:
    worked: list[int] = []
    told: list[None] = []

    def work(items: Sequence[int]) -> list[None]:
        worked.extend(items)
        return [None] * len(items)

    made: Batches[int, None] = Batches("test", work)
    made.close()
    made.put(1, told.append)
    await asyncio.sleep(0)
    assert (worked, told) == ([], [])
