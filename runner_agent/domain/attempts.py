"""Apply a cue to an attempt: look the move up, carry out its acts as outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from runner_agent.domain.attempt_table import Act, Cue, move
from runner_agent.domain.changes import changed
from runner_agent.domain.exit_report import ExitReport, not_started
from runner_agent.domain.held import Held, Phase
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.messages import (
    AttemptExited,
    AttemptStarted,
    OfferReply,
    RejectReason,
    Stop,
    StopPhase,
    StopStatus,
)
from runner_agent.domain.outputs import (
    CloseLog,
    EndUnstarted,
    Forget,
    Fork,
    OpenLog,
    Prepare,
    StopTree,
    TerminateShim,
)
from runner_agent.domain.reason import Reason
from runner_agent.domain.state import SECOND_NS, Leaving, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What some cues carry beside their name."""

    report: ExitReport | None = None
    error: str = ""


def apply(turn: Turn, key: AttemptKey, cue: Cue, detail: Detail | None = None) -> None:
    """Move attempt `key` by `cue`; a cue for an attempt that is not held does nothing."""
    held = turn.held.get(key)
    if held is None:
        return
    phase, acts = move(held.phase, cue)
    if phase is not held.phase:
        held = changed(held, phase=phase)
        turn.put(held)
    for act in acts:
        _carry_out(turn, turn.held[key], act, cue, detail or Detail())


def _carry_out(turn: Turn, held: Held, act: Act, cue: Cue, detail: Detail) -> None:
    match act:
        case Act.PREPARE:
            _prepare(turn, held)
        case Act.FORK:
            _fork(turn, held)
        case Act.END_UNSTARTED:
            report = detail.report or _why_unstarted(held, cue)
            turn.put(changed(held, assignment=None))
            turn.emit(EndUnstarted(key=held.key, report=report))
        case Act.STOP_TREE:
            _stop_tree(turn, held)
        case Act.TERMINATE_SHIM:
            turn.emit(TerminateShim(key=held.key))
        case Act.FORGET:
            turn.emit(CloseLog(key=held.key), Forget(key=held.key))
        case Act.DROP:
            turn.emit(CloseLog(key=held.key))
            turn.drop(held.key)
        case _:
            _say(turn, held, act, detail)


_Saying = Literal[Act.TELL_ACCEPT, Act.REFUSE_IO, Act.REFUSE_DRAINING, Act.TELL_STARTED, Act.TELL_STOP, Act.TELL_EXIT]


def _say(turn: Turn, held: Held, act: _Saying, detail: Detail) -> None:
    match act:
        case Act.TELL_ACCEPT:
            _tell_accept(turn, held)
        case Act.REFUSE_IO:
            note = f"the acceptance could not be written: {detail.error}"
            turn.tell(OfferReply(key=held.key, reject=RejectReason.IO_ERROR, note=note))
        case Act.REFUSE_DRAINING:
            turn.tell(OfferReply(key=held.key, reject=RejectReason.DRAINING, note="the agent is shutting down"))
        case Act.TELL_STARTED:
            tell_started(turn, held)
        case Act.TELL_STOP:
            status = held.stop_status or StopStatus(key=held.key, phase=StopPhase.RECEIVED)
            turn.put(changed(held, stop_status=status))
            turn.tell(status)
        case Act.TELL_EXIT:
            tell_exit(turn, held)
        case _:
            assert_never(act)


def tell_started(turn: Turn, held: Held) -> None:
    """Say once a session that it runs; the phase in every heartbeat says it again."""
    if not held.started_told and turn.welcomed and held.started_at_ns is not None:
        turn.put(changed(held, started_told=True))
        turn.tell(AttemptStarted(key=held.key, pid=held.pid, started_at_ns=held.started_at_ns))


def tell_exit(turn: Turn, held: Held) -> None:
    """Report the end, unless the server has said that it has stored it."""
    if held.exit is not None and not held.exit_stored:
        turn.tell(AttemptExited(key=held.key, exit=held.exit))


def _tell_accept(turn: Turn, held: Held) -> None:
    if not turn.welcomed:
        return
    if held.told_boot_ns is None:
        turn.put(changed(held, told_boot_ns=turn.now))
    turn.tell(OfferReply(key=held.key))


def _prepare(turn: Turn, held: Held) -> None:
    assert held.assignment is not None
    turn.put(changed(held, log_open=True))
    turn.emit(Prepare(key=held.key, assignment=held.assignment), OpenLog(key=held.key, offset=0, spooled_offset=0))


def _fork(turn: Turn, held: Held) -> None:
    assert held.assignment is not None
    assert held.assigned_boot_ns is not None
    spent_s = (turn.now - held.assigned_boot_ns) / SECOND_NS
    turn.emit(
        Fork(
            key=held.key,
            assignment=held.assignment,
            loss_deadline_boot_ns=held.loss_deadline_boot_ns,
            start_timeout_s=max(0.001, held.assignment.start_timeout_s - spent_s),
        )
    )
    # From here on the secrets live in the shim's memory alone.
    turn.put(changed(held, assignment=None))


def _stop_tree(turn: Turn, held: Held) -> None:
    stop = held.stop
    if stop is None:
        stop = Stop(key=held.key, reason=Reason.RUNNER_SHUTDOWN, signal=held.stop_signal, grace_s=held.grace_s)
    turn.emit(StopTree(key=held.key, reason=stop.reason, signal=stop.signal, grace_s=stop.grace_s))


def _why_unstarted(held: Held, cue: Cue) -> ExitReport:
    if cue is Cue.START_TIMED_OUT:
        message = "the preparation took longer than the start timeout"
        return not_started(Reason.START_TIMEOUT, message, stopped_by=Reason.START_TIMEOUT)
    if cue in (Cue.LOSS_PASSED, Cue.ASSIGNED_LATE):
        message = "the loss deadline had passed before anything was started"
        return not_started(Reason.NOT_STARTED, message, stopped_by=Reason.RUNNER_LOST)
    if cue is Cue.FENCED:
        return not_started(Reason.NOT_STARTED, "another attempt holds the run")
    if held.stop is not None:
        return not_started(Reason.NOT_STARTED, "stopped before anything was started", stopped_by=held.stop.reason)
    if cue is Cue.SHUT_DOWN:
        message = "the agent was shut down before anything was started"
        return not_started(Reason.NOT_STARTED, message, stopped_by=Reason.RUNNER_SHUTDOWN)
    return not_started(Reason.NOT_STARTED, "nothing was started")


def order_stop(turn: Turn, stop: Stop, cue: Cue) -> None:
    """A stop from the server or from ourselves. The first reason stays; only a shorter grace counts later."""
    held = turn.held.get(stop.key)
    if held is None:
        return
    if held.stop is None:
        turn.put(changed(held, stop=stop))
    elif stop.grace_s < held.stop.grace_s:
        turn.put(changed(held, stop=changed(held.stop, signal=stop.signal, grace_s=stop.grace_s)))
    elif held.phase is Phase.STOPPING:
        # A repeat: the shim has it already, the server only missed our answer.
        apply(turn, stop.key, Cue.STOP_MOVED)
        return
    apply(turn, stop.key, cue)


def shut_down(turn: Turn, leaving: Leaving) -> None:
    """Stop everything that lives, or (KILL) end it at once."""
    for held in tuple(turn.held.values()):
        kill = leaving is Leaving.KILL
        stop = Stop(
            key=held.key,
            reason=Reason.RUNNER_SHUTDOWN,
            signal="SIGKILL" if kill else held.stop_signal,
            grace_s=0.0 if kill else held.grace_s,
        )
        order_stop(turn, stop, Cue.SHUT_DOWN)
