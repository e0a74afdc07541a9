"""Work for one thread that takes all that waits at once, so that many cost little more than one: group commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """`work` gets all items that came while it was busy, and answers each in order. It must not raise."""

    def __init__(self, name: str, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._work = work
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: list[tuple[T, Callable[[R], None]]] = []

    def put(self, item: T, done: Callable[[R], None]) -> None:
        """Have it done; `done` is called with its answer in the event loop. Call it there."""
        with self._lock:
            self._waiting.append((item, done))
            if self._busy:
                return
            self._busy = True
        self._pool.submit(self._run, asyncio.get_running_loop())

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself, and nobody is told."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while batch := self._take():
            answers = self._work([item for item, _ in batch])
            try:
                loop.call_soon_threadsafe(_tell, batch, answers)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _take(self) -> list[tuple[T, Callable[[R], None]]]:
        with self._lock:
            batch, self._waiting = self._waiting, []
            self._busy = bool(batch)
            return batch


def _tell(batch: Sequence[tuple[T, Callable[[R], None]]], answers: Sequence[R]) -> None:
    for (_, done), answer in zip(batch, answers, strict=True):
        done(answer)
