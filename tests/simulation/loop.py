"""One thread, virtual time: an event loop that jumps from event to event, and lives that can be killed and frozen."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any


class Crashed(BaseException):
    """Unwinds the step of a life that was killed in its midst."""


class Life:
    """A process of the simulation: what it has scheduled dies with it, and waits while it is frozen."""

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop, self.name = loop, name
        self.alive, self.frozen = True, False
        self.on_death: list[Callable[[], None]] = []
        self._backlog: list[Handle] = []
        self._fuse: int | None = None
        self._fuse_at = ""

    def later(self, delay_s: float, step: Callable[..., object], *args: Any) -> Handle:
        """Schedule a step of this life."""
        return self.loop.schedule(self.loop.now + max(0.0, delay_s), step, args, self)

    def arm(self, steps: int, at: str = "") -> None:
        """Die at the n-th next crash point whose name begins so."""
        self._fuse, self._fuse_at = steps, at

    def point(self, name: str, *, race: bool = False) -> None:
        """A place where a crash may strike. `race`: what is ready to run still does so before. Raises Crashed."""
        if not self.alive:
            raise Crashed(name)
        if self._fuse is not None and name.startswith(self._fuse_at):
            self._fuse -= 1
            if self._fuse <= 0:
                while race and self.loop.ready:
                    self.loop._do(self.loop.ready.popleft())
                self.loop.trace("crash", self.name, name)
                self.loop.crash_points[name] = self.loop.crash_points.get(name, 0) + 1
                self.kill()
                raise Crashed(name)

    def strike(self, name: str) -> None:
        """A crash point whose code cannot be unwound: it runs on to its next wait, and nothing hears it."""
        try:
            self.point(name)
        except Crashed:
            return

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more, no clean-up either."""
        if self.alive:
            self.alive = False
            self._backlog.clear()
            for step in self.on_death:
                step()

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        """What came due meanwhile happens now, in order."""
        self.frozen = False
        waiting, self._backlog = self._backlog, []
        for handle in waiting:
            self.loop.ready.append(handle)

    def keep(self, handle: Handle) -> None:
        self._backlog.append(handle)


class Handle:
    """A scheduled step; asyncio cancels it like its own."""

    __slots__ = ("args", "at", "gone", "life", "step")

    def __init__(self, at: float, step: Callable[..., object], args: tuple[Any, ...], life: Life) -> None:
        self.at, self.step, self.args, self.life, self.gone = at, step, args, life, False

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self.at


class SimLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as tasks, events, queues, timeouts and task groups need."""

    def __init__(self, trace: Callable[..., None]) -> None:
        self.now = 0.0
        self.trace = trace
        self.ready: deque[Handle] = deque()
        self.god = Life(self, "world")
        self.current = self.god
        self.errors: list[str] = []
        self.steps = 0
        self.crash_points: dict[str, int] = {}
        self.executor_s: Callable[[], float] = lambda: 0.0
        self._heap: list[tuple[float, int, Handle]] = []
        self._busy_until: dict[int, float] = {}
        self._number = 0
        self._kept: list[asyncio.Task[Any]] = []

    # -- the world's side

    def schedule(self, at: float, step: Callable[..., object], args: tuple[Any, ...], life: Life) -> Handle:
        handle = Handle(at, step, args, life)
        if at <= self.now:
            self.ready.append(handle)
        else:
            self._number += 1
            heapq.heappush(self._heap, (at, self._number, handle))
        return handle

    def spawn(self, life: Life, coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task of a life."""
        before, self.current = self.current, life
        try:
            task = self.create_task(coro, name=name)
        finally:
            self.current = before
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Crashed):
            self.errors.append(f"{task.get_name()}: {error!r} at {where(error)}")

    def run_until(self, end: float) -> None:
        """Let time pass up to `end`."""
        asyncio.events._set_running_loop(self)
        ready, heap = self.ready, self._heap
        try:
            while True:
                while ready:
                    self._do(ready.popleft())
                while heap and heap[0][2].gone:
                    heapq.heappop(heap)
                if not heap or heap[0][0] > end:
                    self.now = end
                    return
                at, _, handle = heapq.heappop(heap)
                self.now = at
                self._do(handle)
        finally:
            self.current = self.god
            asyncio.events._set_running_loop(None)

    def _do(self, handle: Handle) -> None:
        life = handle.life
        if handle.gone or not life.alive:
            return
        if life.frozen:
            life.keep(handle)
            return
        self.current = life
        self.steps += 1
        with contextlib.suppress(Crashed):
            handle.step(*handle.args)

    def forget(self) -> None:
        """The end of the world: tasks of dead lives go without their clean-up being heard."""
        self.ready.clear()
        self._heap.clear()
        asyncio.events._set_running_loop(self)
        try:
            for task in self._kept:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task.get_coro())
        finally:
            self._kept.clear()
            self.ready.clear()
            asyncio.events._set_running_loop(None)

    # -- asyncio's side

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = Handle(self.now, callback, args, self.current)
        self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.schedule(self.now + max(delay, 0.0), callback, args, self.current)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.schedule(when, callback, args, self.current)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Any:
        task = asyncio.Task(coro, loop=self, name=name)
        self._kept.append(task)
        if len(self._kept) > 2_000:
            self._kept = [each for each in self._kept if not each.done()]
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Blocking work takes a moment, in the order in which it was given to its thread."""
        future, life = self.create_future(), self.current
        at = max(self.now + self.executor_s(), self._busy_until.get(id(executor), 0.0))
        self._busy_until[id(executor)] = at
        self.schedule(at, self._work, (future, func, args), life)
        return future

    def _work(self, future: asyncio.Future[Any], func: Any, args: tuple[Any, ...]) -> None:
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits it
            if not future.done():
                future.set_exception(error)
            return
        if not future.done():
            future.set_result(result)

    def call_exception_handler(self, context: Any) -> None:
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")


def where(error: BaseException) -> str:
    """The innermost lines of a traceback."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames))


def _close(coro: Any) -> None:
    """End a coroutine, however often its clean-up wants to wait."""
    for _ in range(20):
        try:
            coro.close()
        except (RuntimeError, asyncio.CancelledError):
            continue
        return
