"""An agent of the simulation: the product's decisions, its session and its log credit, on a simulated host."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

from runner_agent.domain import events
from runner_agent.domain import reconciler as core
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.log import LogChunk, LogRecord
from runner_agent.domain.log_flow import LogTurn
from runner_agent.domain.messages import Heartbeat, RunnerMessage, ServerMessage, Welcome
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
    RenewLoss,
    RewindLog,
    Send,
    SetLogLimits,
)
from runner_agent.domain.state import AgentState, Identity, initial_state
from runner_agent.execution.inventory import found_in
from runner_agent.execution.journal import Notes
from runner_agent.execution.log_moves import move_log
from runner_agent.execution.log_reader import LogRecord as SpoolPiece
from runner_agent.execution.run_directory import Entry
from runner_agent.execution.translate import log_record
from runner_agent.outbox import Outbox, Parting
from runner_agent.session.connection import Connection
from runner_agent.session.session import SessionEnd
from runner_agent.shim import remains
from tests.simulation.execution import SimExecution
from tests.simulation.host import Host, SimRemains
from tests.simulation.loop import Handle, Life

if TYPE_CHECKING:
    from tests.simulation.network import Network, Wire


class SimAgent:
    """One life of the agent on a host."""

    def __init__(self, host: Host, network: Network, runner: Any, rng: random.Random, *, clone: bool = False) -> None:
        self.host, self.network, self.runner, self.rng, self.clone = host, network, runner, rng, clone
        self.life = Life(host.loop, f"{host.name} agent")
        self.life.on_death.append(self._died)
        self.executions: dict[AttemptKey, SimExecution] = {}
        self.state: AgentState
        self.outbox: Outbox | None = None
        self.wire: Wire | None = None
        self.left: Leave | None = None
        self.ready = False
        self._pauses = Connection(
            server="",
            insecure=True,
            enrolment=None,
            host=None,
            clock=host.clock,
            chance=rng.random,  # type: ignore[arg-type]
        )
        self._control: deque[RunnerMessage] = deque()
        self._beats: dict[int, int] = {}
        self._tick: Handle | None = None
        self._tick_at = 0
        self._opened_s = 0.0
        self._welcomed = False
        self._reason = ""
        self.life.later(rng.uniform(0.1, 1.5), self._start)

    def _start(self) -> None:
        """Scan run directories, then dial."""
        entries, delay_s = [], 0.0
        for directory in list(self.host.dirs.values()):
            if not any(name in directory.files for name in ("accept", "spec", "identity", "exit")):
                if directory.lock is None:
                    del self.host.dirs[directory.key]
                continue
            standing, record = remains.settle(SimRemains(self.host, directory))
            self.life.point("agent start: settled one")
            details = directory.files.get("accept") or {}
            path = _Place(directory.files.get("agent") or Notes())
            entries.append(
                Entry(
                    path=path,  # type: ignore[arg-type]
                    run_id=directory.key.run_id,
                    epoch=directory.key.epoch,
                    standing=standing,
                    details=details,
                    record=record,
                )
            )
        found, _ = found_in(entries, self.host.boot_id, lambda path: path.notes)  # type: ignore[attr-defined]
        identity = Identity(
            agent_version="sim",
            slots=self.runner.slots,
            boot_id=self.host.boot_id,
            state_directory_id=self.runner.state_directory_id,
        )
        self.state = initial_state(identity, [item.held for item in found])
        self.ready = True
        for item in found:
            execution = self.executions[item.held.key] = SimExecution(self, item.held.key, item.notes)
            if item.live:
                execution.find()
        self.host.guard()
        self._arm()
        self.life.later(delay_s, self._dial)

    # -- session

    def _dial(self) -> None:
        if self.left is None:
            self.network.dial(self)

    def refused(self) -> None:
        """Nobody answered."""
        self.life.later(self._pauses._pause_s(None, 0.0), self._dial)

    def opened(self, wire: Wire) -> None:
        """A stream is open."""
        self.wire, self.outbox = wire, Outbox(self.host.clock.boottime_ns)
        self._control.clear()
        self._opened_s, self._welcomed, self._reason = self.host.loop.now, False, ""
        self.hear(events.SessionOpened())

    def received(self, wire: Wire, message: ServerMessage) -> None:
        if self.wire is wire:
            self._welcomed = self._welcomed or isinstance(message, Welcome)
            self.hear(events.Received(message=message))

    def closed(self, wire: Wire, reason: str) -> None:
        """The stream has ended, or we ended it."""
        if self.wire is not wire:
            return
        self.wire = None
        outbox, self.outbox = self.outbox, None
        parting = None if outbox is None else outbox.parting
        said = reason if parting is None else parting.reason
        end = SessionEnd(reason=said, welcomed=self._welcomed, parting=parting)
        self.hear(events.SessionClosed(reason=said))
        pause_s = self._pauses._pause_s(end, self.host.loop.now - self._opened_s)
        self.life.later(pause_s, self._dial)

    def _died(self) -> None:
        if self.wire is not None:
            self.wire.reset_by_agent()
            self.wire = None

    # -- decisions

    def hear(self, event: events.Event) -> None:
        """One event, one decision, all that follows from it."""
        if self.left is not None:
            return
        self.state, outputs = core.decide(self.state, event, self.host.clock.boottime_ns())
        for output in outputs:
            if isinstance(output, RenewLoss):
                self._check_base(event, output)
            if not isinstance(output, Note):
                self.life.point(f"agent {type(output).__name__}")
                self._carry_out(output)
        self._pump()
        self._arm()

    def _check_base(self, event: events.Event, renewal: RenewLoss) -> None:
        """A loss deadline counts from when the heartbeat left that was acked, not from when the ack came."""
        seq = getattr(getattr(event, "message", None), "seq", None)
        lost_after_s = self.state.held[renewal.key].lost_after_s
        sent_ns = self._beats.get(seq) if seq is not None else None
        if sent_ns is None or lost_after_s is None:
            return
        if renewal.deadline_boot_ns > sent_ns + int(lost_after_s * 1e9) + 1_000_000:
            self.host.truth.violate(self.host.loop.now, f"I2 {renewal.key.run_id[-6:]} is renewed from the receipt")

    def _arm(self) -> None:
        """A Tick at the next instant that the decisions name."""
        wake = core.next_wake(self.state)
        if wake == self._tick_at and self._tick is not None:
            return
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if wake is not None and self.left is None:
            self._tick_at = wake
            self._tick = self.life.later(self.host.clock.delay_s(wake), self._ticked)

    def _ticked(self) -> None:
        self._tick = None
        self.hear(events.Tick(load=0.0, disk_free_bytes=0 if self.host.full else 1 << 40))

    def _carry_out(self, output: Output) -> None:
        match output:
            case Send():
                self._control.append(output.message)
            case CloseSession():
                if self.outbox is not None:
                    self.outbox.close(
                        Parting(
                            reason=output.reason,
                            reconnect_after_s=output.reconnect_after_s,
                            jitter_s=output.jitter_s,
                        )
                    )
                if self.wire is not None:
                    self.life.later(0.0, self._hang_up, self.wire)
            case Leave():
                self._leave(output)
            case OpenLog() | LogGrew() | AckLog() | HeardLog() | RewindLog() | CloseLog() | SetLogLimits():
                if self.outbox is not None:
                    move_log(self.outbox, output, self.host.clock.boottime_ns())
            case Note():
                pass
            case _:
                execution = self.executions.get(output.key)
                if execution is None:
                    execution = self.executions[output.key] = SimExecution(self, output.key)
                execution.do(output)

    def _hang_up(self, wire: Wire) -> None:
        wire.hang_up_by_agent()
        self.closed(wire, "we hung up")

    def _leave(self, leave: Leave) -> None:
        self.left = leave
        if leave.for_good and self.host.fork_server is not None:
            retiring, self.host.fork_server = self.host.fork_server, None
            self.host.retired.append(retiring)
        self.life.later(0.01, self.life.kill)

    def forgotten(self, execution: SimExecution) -> None:
        if self.executions.get(execution.key) is execution:
            del self.executions[execution.key]
        self.hear(events.Forgotten(key=execution.key))

    # -- writing

    def _pump(self) -> None:
        """Control before logs, as the session's writer does it."""
        wire, outbox = self.wire, self.outbox
        if wire is None or outbox is None or outbox.parting is not None:
            return
        while self._control:
            message = self._control.popleft()
            if isinstance(message, Heartbeat):
                self._beats[message.seq] = self.host.clock.boottime_ns()
            wire.to_server(message)
        for _ in range(64):
            turn = outbox.flow.next_turn(self.host.clock.boottime_ns())
            if turn is None:
                return
            chunk = self._read_log(turn)
            if chunk is None:
                outbox.flow.skip(turn.key)
                continue
            outbox.sent(turn.key, offset=chunk.offset, end_offset=chunk.end_offset)
            wire.to_server(chunk)
        self.life.later(0.001, self._pump)

    def _read_log(self, turn: LogTurn) -> LogChunk | None:
        execution = self.executions.get(turn.key)
        directory = None if execution is None else self.host.dirs.get(execution.where)
        if directory is None:
            return None
        records: list[LogRecord] = []
        left, at = turn.limit_bytes, turn.offset
        for piece in directory.spool:
            if left <= 0:
                break
            if piece.offset + len(piece.data) <= at:
                continue
            skip = at - piece.offset
            if skip < 0:
                break
            data = piece.data[skip : skip + left]
            item = SpoolPiece(offset=at, data=data, kind=piece.kind, step=piece.step, time_ns=piece.at_ns)
            records.append(log_record(item))
            at, left = at + len(data), left - len(data)
        return LogChunk(key=turn.key, offset=turn.offset, records=tuple(records)) if records else None


class _Place:
    """Where an entry lies: the notes that a former agent left there."""

    def __init__(self, notes: Any) -> None:
        self.notes = notes
