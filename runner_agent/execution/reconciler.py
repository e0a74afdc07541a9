"""Drives the pure decisions: events in, outputs out to sessions, shims and disk. Only it holds the agent's state."""

from __future__ import annotations

import asyncio
from collections import deque
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

WAITING_EVENTS = 1_000
LONGEST_SLEEP_S = 3_600.0
# An alarm that rings at once.
DUE = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrival:
    event: Event
    outbox: Outbox | None = None


class Reconciler:
    """Takes an event, decides, carries out, at once and one after the other. It waits for nothing.

    Everything happens in the event loop's one thread, so that an event needs no queue and no task of its own: who
    tells it runs the decision. What comes of carrying one out waits for its turn.
    """

    def __init__(self, *, state: AgentState, clock: Clock, measure: Callable[[], tuple[float, int]]) -> None:
        self._state = state
        self._clock = clock
        self._measure = measure
        self._waiting: deque[_Arrival] = deque()
        self._deciding = False
        self._outbox: Outbox | None = None
        self._attempts: Attempts | None = None
        self._leave: Leave | None = None
        self._over: asyncio.Future[Leave] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_boot_ns: int | None = None
        self._log = logger("reconciler")

    # ---- what happens

    def post(self, event: Event) -> None:
        """Tell an event. It is decided on before this returns, unless another decision is under way."""
        self._take(_Arrival(event=event))

    def post_nowait(self, event: Event) -> None:
        """Tell an event from a signal handler, maybe before `run`. Too many are dropped: it can be sent again."""
        if len(self._waiting) < WAITING_EVENTS:
            self._take(_Arrival(event=event))

    async def session_opened(self, outbox: Outbox) -> None:
        """A stream is open; what is to be said goes into `outbox`."""
        self._take(_Arrival(event=SessionOpened(), outbox=outbox))

    async def session_closed(self, reason: str) -> None:
        """The stream has ended."""
        if self._leave is None:
            self._take(_Arrival(event=SessionClosed(reason=reason)))

    async def received(self, message: ServerMessage) -> None:
        """The server said something."""
        self._take(_Arrival(event=Received(message=message)))

    async def read_log(self, turn: LogTurn) -> LogChunk | None:
        """The log bytes of a turn; None if there is nothing to read."""
        held = self._state.held.get(turn.key)
        if held is None or self._attempts is None:
            return None
        return await self._attempts.read_log(turn, None if held.exit is None else held.exit.final_offset)

    # ---- deciding

    async def run(self, attempts: Attempts) -> Leave:
        """Until the agent may leave. Attempts that live go on under their shims."""
        self._attempts = attempts
        load, disk_free_bytes = self._measure()
        self._state = replace(self._state, load=load, disk_free_bytes=disk_free_bytes)
        self._over = asyncio.get_running_loop().create_future()
        self._work_off()
        try:
            leave = await self._over
        finally:
            self._set_alarm(None)
        if self._outbox is not None:
            self._outbox.close(Parting(reason=f"leaving: {leave.reason}"))
        return leave

    def _take(self, arrival: _Arrival) -> None:
        self._waiting.append(arrival)
        if not self._deciding:
            self._work_off()

    def _work_off(self, *, woken: bool = False) -> None:
        """Decide on all that waits. What goes wrong ends `run`, whoever has told the event."""
        over = self._over
        if over is None or over.done():
            return
        self._deciding = True
        try:
            if woken:
                self._tick_if_due()
            while self._waiting and self._leave is None:
                arrival = self._waiting.popleft()
                if arrival.outbox is not None:
                    self._outbox = arrival.outbox
                self._decide(arrival.event)
                if isinstance(arrival.event, SessionClosed):
                    self._outbox = None
            self._look_at_the_clock()
        except Exception as error:  # noqa: BLE001 - it is raised where the agent waits for its end
            over.set_exception(error)
        finally:
            self._deciding = False
        if self._leave is not None and not over.done():
            over.set_result(self._leave)

    def _look_at_the_clock(self) -> None:
        """Be woken at the next instant that a decision needs. One that has passed is due now, also after a suspend."""
        wake = core.next_wake(self._state)
        if wake is None or self._leave is not None:
            self._set_alarm(None)
            return
        if wake <= self._clock.boottime_ns():
            wake = DUE
        if self._alarm_boot_ns is None or wake < self._alarm_boot_ns:
            self._set_alarm(wake)

    def _set_alarm(self, wake_boot_ns: int | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_boot_ns = None, wake_boot_ns
        if wake_boot_ns is not None:
            wait_s = min(max(0.0, (wake_boot_ns - self._clock.boottime_ns()) / 1e9), LONGEST_SLEEP_S)
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._woken)

    def _woken(self) -> None:
        self._alarm, self._alarm_boot_ns = None, None
        self._work_off(woken=True)

    def _tick_if_due(self) -> None:
        """The alarm may have been set for an instant that has moved since: then it is only set anew."""
        wake = core.next_wake(self._state)
        if wake is not None and wake <= self._clock.boottime_ns():
            load, disk_free_bytes = self._measure()
            self._waiting.append(_Arrival(event=Tick(load=load, disk_free_bytes=disk_free_bytes)))

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
