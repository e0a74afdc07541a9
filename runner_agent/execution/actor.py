"""One attempt's order of things: one after the other; what takes its time has a task, what does not costs none."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path

from runner_agent.domain import events
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.outputs import (
    EndUnstarted,
    Forget,
    Fork,
    JournalAccept,
    Prepare,
    RenewLoss,
    StopTree,
    TerminateShim,
)
from runner_agent.execution.room import Room
from runner_agent.telemetry import FilteringBoundLogger, logger

MAX_WAITING = 256

AttemptOutput = JournalAccept | Prepare | Fork | EndUnstarted | StopTree | TerminateShim | RenewLoss | Forget


class Actor:
    """Carries out what is done about one attempt. `over` is called when there is nothing more to do, or it broke."""

    def __init__(
        self, key: AttemptKey, room: Room, tasks: asyncio.TaskGroup, over: Callable[[AttemptKey], None]
    ) -> None:
        self.key = key
        self.directory: Path = room.state.path_of(key.run_id, key.lease_epoch)
        self._room = room
        self._over = over
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._queue: deque[AttemptOutput] = deque()
        self._busy = False
        self._renewal: RenewLoss | None = None

    def do(self, output: AttemptOutput) -> None:
        """Carry out what was decided, after what came before. Of renewals only the newest counts."""
        if isinstance(output, RenewLoss):
            waiting, self._renewal = self._renewal, output
            if waiting is not None:
                return
        if len(self._queue) >= MAX_WAITING:
            self._log.warning("attempt_is_stuck", dropped=type(output).__name__)
            return
        self._queue.append(output)
        self._work_off()

    def abandon(self) -> None:
        """Let go of it; what lives goes on under its shim."""
        self._queue.clear()
        self._busy = True
        for task in tuple(self._running):
            task.cancel()

    @property
    def _log(self) -> FilteringBoundLogger:
        """Made when there is something to say, which is rare."""
        return logger("execution").bind(run=self.key.run_id, epoch=self.key.lease_epoch)

    def _carry_out(self, output: AttemptOutput) -> None:
        raise AssertionError("it is the attempt that knows how")

    def _work_off(self) -> None:
        try:
            while self._queue and not self._busy:
                self._carry_out(self._queue.popleft())
        except Exception as error:  # noqa: BLE001 - one attempt's fault must not end the others; it is told and kept
            self._break(error)

    def _break(self, error: Exception) -> None:
        self._log.error("attempt_broke", exc_info=error)
        self.abandon()
        self._over(self.key)
        self._room.post(events.Quarantined(key=self.key, message=f"the agent cannot carry on with it: {error}"))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Have it done beside everything else."""
        task = self._tasks.create_task(self._guard(work), name=f"{name} {self.key}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - as above
            self._break(error)

    def _step(self, work: Coroutine[None, None, None], name: str) -> None:
        """Have it done; what follows waits for it."""
        self._busy = True
        self._spawn(self._one_step(work), name)

    async def _one_step(self, work: Coroutine[None, None, None]) -> None:
        await work
        self._go_on()

    def _go_on(self) -> None:
        self._busy = False
        self._work_off()
