"""Work for one thread that takes all that waits at once, so that many cost little more than one: group commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from runner_agent.telemetry import logger

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """`work` gets all items that came while it was busy, and answers each in order.

    If it raises, or forgets an answer, everybody in that batch is told what `failed` makes of the error.

    How many may wait is bounded by who puts: each attempt has one thing done at a time.
    """

    def __init__(
        self, name: str, work: Callable[[Sequence[T]], Sequence[R]], *, failed: Callable[[Exception], R]
    ) -> None:
        self._name = name
        self._work = work
        self._failed = failed
        self._changed = threading.Condition()
        self._waiting: list[tuple[T, Callable[[R], None]]] = []
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, item: T, done: Callable[[R], None]) -> None:
        """Have it done; `done` is called with its answer in the event loop. Call it there. Closed: nothing happens."""
        with self._changed:
            if self._closed:
                return
            self._waiting.append((item, done))
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(asyncio.get_running_loop(),), name=self._name)
            self._thread.start()

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself, and nobody is told."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while batch := self._take():
            answers = self._answers([item for item, _ in batch])
            try:
                loop.call_soon_threadsafe(_tell, batch, answers)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _answers(self, items: Sequence[T]) -> Sequence[R]:
        try:
            answers = self._work(items)
            if len(answers) != len(items):
                raise AssertionError(f"{len(answers)} answers for {len(items)} items")
        except Exception as error:  # noqa: BLE001 - the thread must live on, and nobody wait for ever
            logger(self._name).error("batch_failed", exc_info=error)
            return [self._failed(error)] * len(items)
        return answers

    def _take(self) -> list[tuple[T, Callable[[R], None]]]:
        """All that waits, as soon as something does; nothing once it is closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            batch, self._waiting = self._waiting, []
            return batch


def _tell(batch: Sequence[tuple[T, Callable[[R], None]]], answers: Sequence[R]) -> None:
    for (_, done), answer in zip(batch, answers, strict=True):
        try:
            done(answer)
        except Exception as error:  # noqa: BLE001 - the others wait too
            logger("batches").error("answer_not_taken", exc_info=error)
