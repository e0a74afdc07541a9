"""Drives the pure decisions: events in, outputs out to sessions, shims and disk. Only it holds the agent's state."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from runner_agent.clock import Clock
from runner_agent.domain import reconciler as core
from runner_agent.domain.events import Event, Received, SessionClosed, SessionOpened, Tick
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.log import LogChunk
from runner_agent.domain.log_flow import LogTurn
from runner_agent.domain.messages import AttemptExited, ServerMessage
from runner_agent.domain.outputs import (
    AckLog,
    CloseLog,
    CloseSession,
    HeardLog,
    Leave,
    LogGrew,
    Note,
    OpenLog,
    Output,
    RewindLog,
    Send,
    SetLogLimits,
)
from runner_agent.domain.state import AgentState
from runner_agent.execution.attempts import Attempts
from runner_agent.execution.execution import Execution
from runner_agent.execution.log_moves import LogOutput, move_log
from runner_agent.outbox import Outbox, OutboxFull, Parting
from runner_agent.telemetry import logger

INBOX_EVENTS = 1_000
LONGEST_SLEEP_S = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrival:
    event: Event
    outbox: Outbox | None = None


class Reconciler:
    """One loop: take an event, decide, carry out. It waits for nothing but events and the next instant."""

    def __init__(self, *, state: AgentState, clock: Clock, measure: Callable[[], tuple[float, int]]) -> None:
        self._state = state
        self._clock = clock
        self._measure = measure
        self._inbox: asyncio.Queue[_Arrival] = asyncio.Queue(INBOX_EVENTS)
        self._outbox: Outbox | None = None
        self._attempts: Attempts | None = None
        self._leave: Leave | None = None
        self._log = logger("reconciler")

    # ---- what happens

    async def post(self, event: Event) -> None:
        """Tell an event; blocks while the loop is behind."""
        await self._inbox.put(_Arrival(event=event))

    def post_nowait(self, event: Event) -> None:
        """Tell an event from a signal handler. A full inbox drops it: the signal can be sent again."""
        with contextlib.suppress(asyncio.QueueFull):
            self._inbox.put_nowait(_Arrival(event=event))

    async def session_opened(self, outbox: Outbox) -> None:
        """A stream is open; what is to be said goes into `outbox`."""
        await self._inbox.put(_Arrival(event=SessionOpened(), outbox=outbox))

    async def session_closed(self, reason: str) -> None:
        """The stream has ended."""
        if self._leave is None:
            await self._inbox.put(_Arrival(event=SessionClosed(reason=reason)))

    async def received(self, message: ServerMessage) -> None:
        """The server said something."""
        await self._inbox.put(_Arrival(event=Received(message=message)))

    async def read_log(self, turn: LogTurn) -> LogChunk | None:
        """The log bytes of a turn; None if there is nothing to read."""
        held = self._state.held.get(turn.key)
        if held is None or self._attempts is None:
            return None
        return await self._attempts.read_log(turn, None if held.exit is None else held.exit.final_offset)

    # ---- the loop

    async def run(self, attempts: Attempts) -> Leave:
        """Until the agent may leave. Attempts that live go on under their shims."""
        self._attempts = attempts
        load, disk_free_bytes = self._measure()
        self._state = replace(self._state, load=load, disk_free_bytes=disk_free_bytes)
        while self._leave is None:
            arrival = await self._next()
            if arrival is None:
                load, disk_free_bytes = self._measure()
                arrival = _Arrival(event=Tick(load=load, disk_free_bytes=disk_free_bytes))
            if arrival.outbox is not None:
                self._outbox = arrival.outbox
            self._decide(arrival.event)
            if isinstance(arrival.event, SessionClosed):
                self._outbox = None
        if self._outbox is not None:
            self._outbox.close(Parting(reason=f"leaving: {self._leave.reason}"))
        return self._leave

    async def _next(self) -> _Arrival | None:
        """The next arrival; None when the next instant has come first."""
        if not self._inbox.empty():
            return self._inbox.get_nowait()
        wake = core.next_wake(self._state)
        wait_s = LONGEST_SLEEP_S if wake is None else (wake - self._clock.boottime_ns()) / 1e9
        if wait_s <= 0:
            return None
        try:
            async with asyncio.timeout(min(wait_s, LONGEST_SLEEP_S)):
                return await self._inbox.get()
        except TimeoutError:
            return None

    def _decide(self, event: Event) -> None:
        self._state, outputs = core.decide(self._state, event, self._clock.boottime_ns())
        for output in outputs:
            self._carry_out(output)

    def _carry_out(self, output: Output) -> None:
        match output:
            case Send():
                self._send(output)
            case Note():
                self._note(output)
            case CloseSession():
                self._close(
                    Parting(reason=output.reason, reconnect_after_s=output.reconnect_after_s, jitter_s=output.jitter_s)
                )
            case Leave():
                self._leave = output
            case OpenLog() | LogGrew() | AckLog() | HeardLog() | RewindLog() | CloseLog() | SetLogLimits():
                self._move_log(output)
            case _:
                self._attempt(output.key).do(output)

    def _attempt(self, key: AttemptKey) -> Execution:
        assert self._attempts is not None
        return self._attempts.of(key)

    def _move_log(self, output: LogOutput) -> None:
        if self._outbox is not None:
            move_log(self._outbox, output, self._clock.boottime_ns())
        if self._attempts is not None and isinstance(output, AckLog):
            self._attempts.log_acked(output.key, output.committed_offset)
        elif self._attempts is not None and isinstance(output, CloseLog):
            self._attempts.close_log(output.key)

    def _send(self, output: Send) -> None:
        if self._outbox is None:
            return
        try:
            self._outbox.put(output.message)
        except OutboxFull as error:
            if isinstance(output.message, AttemptExited):
                return  # every heartbeat carries as many exit records as fit, until they are stored
            self._close(Parting(reason=f"the server does not read: {error}"))

    def _close(self, parting: Parting) -> None:
        if self._outbox is not None:
            self._outbox.close(parting)

    def _note(self, note: Note) -> None:
        say = self._log.warning if note.warning else self._log.info
        if note.key is None:
            say(note.event, detail=note.detail)
        else:
            say(note.event, detail=note.detail, run=note.key.run_id, epoch=note.key.lease_epoch)
