"""Work in batches: what comes while the thread is busy is done together, and each is answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from runner_agent.execution.batches import Batches


async def test_what_waits_is_done_together_and_answered_in_order() -> None:
    begun, go_on = threading.Event(), threading.Event()
    batches: list[list[int]] = []

    def work(items: Sequence[int]) -> list[str]:
        batches.append(list(items))
        begun.set()
        go_on.wait(30)
        return [f"done {item}" for item in items]

    made: Batches[int, str] = Batches("test", work, failed=str)
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

    made: Batches[int, None] = Batches("test", work, failed=lambda error: None)
    made.close()
    made.put(1, told.append)
    await asyncio.sleep(0)
    assert (worked, told) == ([], [])


@pytest.mark.parametrize("short", [False, True])
async def test_work_that_raises_or_forgets_somebody_leaves_nobody_waiting(short: bool) -> None:
    begun, go_on = threading.Event(), threading.Event()
    answers: list[str] = []
    told, over = asyncio.Event(), asyncio.Event()

    def work(items: Sequence[int]) -> list[str]:
        begun.set()
        go_on.wait(30)
        if 1 in items and short:
            return []
        if 1 in items:
            raise LookupError("a mistake")
        return [f"done {item}" for item in items]

    def done(answer: str) -> None:
        answers.append(answer)
        if len(answers) == 3:
            told.set()
        if len(answers) == 4:
            over.set()
        if len(answers) == 2:
            raise LookupError("one who does not take it")

    made: Batches[int, str] = Batches("test", work, failed=lambda error: f"failed {type(error).__name__}")
    made.put(0, done)
    await asyncio.to_thread(begun.wait, 30)
    made.put(1, done)
    made.put(2, done)
    go_on.set()
    async with asyncio.timeout(30):
        await told.wait()
        made.put(3, done)
        await over.wait()
    why = "AssertionError" if short else "LookupError"
    assert answers == ["done 0", f"failed {why}", f"failed {why}", "done 3"]
    made.close()
