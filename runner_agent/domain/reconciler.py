"""The agent's one decision: `decide(state, event, now) -> (state, outputs)`. Pure; everything else only carries out.

`now` is CLOCK_BOOTTIME in nanoseconds, which counts suspend. Outputs are in the order in which they must happen.
"""

from __future__ import annotations

from typing import assert_never

from runner_agent.domain import departure, greeting, offers, verdicts
from runner_agent.domain.assignment import Assignment
from runner_agent.domain.attempt_table import Cue
from runner_agent.domain.attempts import Detail, apply, order_stop
from runner_agent.domain.changes import changed
from runner_agent.domain.events import (
    Event,
    Exited,
    Forgotten,
    HandoverRequested,
    JournalDone,
    JournalFailed,
    LeaveRequested,
    Prepared,
    PrepareFailed,
    Progressed,
    Quarantined,
    Received,
    SessionClosed,
    SessionOpened,
    ShimUnknown,
    Spooled,
    Started,
    StepOver,
    StopMoved,
    Tick,
    UploadMoved,
)
from runner_agent.domain.exit_report import ExitReport, Outcome
from runner_agent.domain.held import OVER, Phase
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.messages import (
    AttemptProgress,
    Drain,
    Fenced,
    Goodbye,
    HeartbeatAck,
    LogAck,
    LogRewind,
    Offer,
    Release,
    Resume,
    ServerMessage,
    StepEnded,
    Stop,
    StopStatus,
    Unintelligible,
    Welcome,
    Withdraw,
)
from runner_agent.domain.outputs import AckLog, LogGrew, Output, RewindLog
from runner_agent.domain.state import SECOND_NS, AgentState, SessionPhase, Turn


def decide(state: AgentState, event: Event, now_boot_ns: int) -> tuple[AgentState, tuple[Output, ...]]:
    """The next state and what to do now."""
    turn = Turn(state, now_boot_ns)
    _take(turn, event)
    departure.look(turn)
    return turn.state, tuple(turn.outputs)


def next_wake(state: AgentState) -> int | None:
    """When a Tick is due (CLOCK_BOOTTIME ns); None while nothing waits for time."""
    instants = [*greeting.instants(state), *departure.instants(state)]
    for held in state.held.values():
        if held.phase is Phase.PREPARING:
            instants += [at for at in (held.start_deadline_boot_ns, held.loss_deadline_boot_ns) if at is not None]
    return min(instants, default=None)


def _take(turn: Turn, event: Event) -> None:
    match event:
        case SessionOpened():
            greeting.say_hello(turn)
        case SessionClosed():
            greeting.close(turn)
        case Received():
            _receive(turn, event.message)
        case Tick():
            turn.change(load=event.load, disk_free_bytes=event.disk_free_bytes)
            _check_preparations(turn)
            greeting.beat(turn)
        case LeaveRequested():
            departure.escalate(turn)
        case HandoverRequested():
            departure.hand_over(turn)
        case _:
            _take_from_host(turn, event)


_HostEvent = (
    JournalDone
    | JournalFailed
    | Prepared
    | PrepareFailed
    | Started
    | StepOver
    | Progressed
    | StopMoved
    | Spooled
    | Exited
    | Quarantined
    | ShimUnknown
    | Forgotten
    | UploadMoved
)


def _take_from_host(turn: Turn, event: _HostEvent) -> None:
    match event:
        case JournalDone():
            apply(turn, event.key, Cue.JOURNALLED)
        case JournalFailed():
            apply(turn, event.key, Cue.JOURNAL_FAILED, Detail(error=event.error))
        case Prepared():
            apply(turn, event.key, _prepared_cue(turn, event.key))
        case PrepareFailed():
            apply(turn, event.key, Cue.PREPARE_FAILED, Detail(report=event.report))
        case Quarantined():
            _set_apart(turn, event.key, Phase.QUARANTINED, event.message)
        case ShimUnknown():
            _set_apart(turn, event.key, Phase.UNKNOWN_SHIM, "its shim speaks an unknown version")
        case Forgotten():
            apply(turn, event.key, Cue.FORGOTTEN)
        case UploadMoved():
            _upload_moved(turn, event)
        case _:
            _take_from_shim(turn, event)


def _take_from_shim(turn: Turn, event: Started | StepOver | Progressed | StopMoved | Spooled | Exited) -> None:
    match event:
        case Started():
            _started(turn, event)
        case StepOver():
            turn.tell(StepEnded(key=event.key, step=event.step))
        case Progressed():
            _progressed(turn, event)
        case StopMoved():
            _stop_moved(turn, event)
        case Spooled():
            _spooled(turn, event.key, event.offset)
        case Exited():
            _exited(turn, event.key, event.report)
        case _:
            assert_never(event)


def _receive(turn: Turn, message: ServerMessage) -> None:
    if isinstance(message, Welcome):
        verdicts.welcome(turn, message)
        return
    if not turn.welcomed:
        if turn.session.phase is not SessionPhase.OFFLINE and isinstance(message, Goodbye):
            greeting.part(turn, message)
            return
        turn.note("message_before_welcome", detail=type(message).__name__, warning=True)
        return
    turn.change_session(heard_boot_ns=turn.now)
    _receive_work(turn, message)


def _receive_work(turn: Turn, message: ServerMessage) -> None:
    match message:
        case HeartbeatAck():
            verdicts.heartbeat_ack(turn, message)
        case Offer():
            offers.consider(turn, message)
        case Withdraw():
            apply(turn, message.key, Cue.WITHDRAWN)
        case Assignment():
            verdicts.assign(turn, message)
        case Stop():
            order_stop(turn, message, Cue.STOP_ORDERED)
        case Fenced():
            verdicts.fence(turn, message.key, None)
        case Release():
            _released(turn, message.key)
        case _:
            _receive_rest(turn, message)


def _receive_rest(
    turn: Turn, message: LogAck | LogRewind | Drain | Resume | Goodbye | Unintelligible | Welcome
) -> None:
    match message:
        case LogAck():
            committed, window = message.committed_offset, message.window_bytes
            turn.emit(AckLog(key=message.key, committed_offset=committed, window_bytes=window))
            departure.log_moved(turn)
        case LogRewind():
            turn.emit(RewindLog(key=message.key, expected_offset=message.expected_offset))
        case Drain() | Resume():
            turn.change(server_draining=isinstance(message, Drain))
        case Goodbye():
            greeting.part(turn, message)
        case Unintelligible():
            turn.note("message_not_understood", detail=message.what, warning=True)
        case Welcome():
            verdicts.welcome(turn, message)
        case _:
            assert_never(message)


def _prepared_cue(turn: Turn, key: AttemptKey) -> Cue:
    held = turn.held.get(key)
    if held is None:
        return Cue.PREPARED
    if held.loss_deadline_boot_ns is not None and turn.now >= held.loss_deadline_boot_ns:
        return Cue.LOSS_PASSED
    if held.start_deadline_boot_ns is not None and turn.now >= held.start_deadline_boot_ns:
        return Cue.START_TIMED_OUT
    return Cue.PREPARED


def _check_preparations(turn: Turn) -> None:
    for held in tuple(turn.held.values()):
        if held.phase is Phase.PREPARING and (cue := _prepared_cue(turn, held.key)) is not Cue.PREPARED:
            apply(turn, held.key, cue)


def _started(turn: Turn, event: Started) -> None:
    held = turn.held.get(event.key)
    if held is None:
        return
    turn.put(changed(held, pid=event.pid, started_at_ns=event.at_ns))
    apply(turn, event.key, Cue.STARTED)


def _progressed(turn: Turn, event: Progressed) -> None:
    """Told at most once a second: what comes faster, the next heartbeat tells."""
    held = turn.held.get(event.key)
    if held is None or held.progress == event.progress:
        return
    held = changed(held, progress=event.progress)
    last = held.progress_told_boot_ns
    if turn.welcomed and (last is None or turn.now - last >= SECOND_NS):
        held = changed(held, progress_told_boot_ns=turn.now)
        turn.tell(AttemptProgress(key=event.key, progress=event.progress))
    turn.put(held)


def _stop_moved(turn: Turn, event: StopMoved) -> None:
    held = turn.held.get(event.key)
    if held is None:
        return
    status = StopStatus(key=event.key, phase=event.phase, survivors=event.survivors, at_ns=event.at_ns)
    turn.put(changed(held, stop_status=status))
    apply(turn, event.key, Cue.STOP_MOVED)


def _spooled(turn: Turn, key: AttemptKey, offset: int) -> None:
    held = turn.held.get(key)
    if held is None or offset <= held.spooled_offset:
        return
    turn.put(changed(held, spooled_offset=offset))
    if held.log_open:
        turn.emit(LogGrew(key=key, spooled_offset=offset))


def _exited(turn: Turn, key: AttemptKey, report: ExitReport) -> None:
    held = turn.held.get(key)
    if held is None or held.exit is not None:
        return
    started_at_ns = held.started_at_ns if held.started_at_ns is not None else report.started_at_ns
    turn.put(changed(held, exit=report, started_at_ns=started_at_ns, pid=held.pid or report.pid, assignment=None))
    _spooled(turn, key, report.final_offset)
    if held.log_open:
        # The last part of an overfull log can be read only now, though its offsets were told before.
        turn.emit(LogGrew(key=key, spooled_offset=report.final_offset))
    apply(turn, key, Cue.NEVER_STARTED if report.outcome is Outcome.NOT_STARTED else Cue.ENDED)


def _released(turn: Turn, key: AttemptKey) -> None:
    """Its log is whole. That says nothing of files that are on their way: they come first."""
    held = turn.held.get(key)
    if held is not None and held.uploading:
        turn.put(changed(held, released=True))
    else:
        apply(turn, key, Cue.RELEASED)


def _upload_moved(turn: Turn, event: UploadMoved) -> None:
    held = turn.held.get(event.key)
    if held is None:
        return
    departure.log_moved(turn)
    if event.done:
        turn.put(changed(held, handed_in=True))
        if held.released:
            apply(turn, event.key, Cue.RELEASED)


def _set_apart(turn: Turn, key: AttemptKey, phase: Phase, why: str) -> None:
    held = turn.held.get(key)
    if held is not None and held.phase is not phase and held.phase not in (*OVER, Phase.FORGETTING):
        turn.put(changed(held, phase=phase, assignment=None, message=why))
        turn.note("attempt_set_apart", key, f"{phase}: {why}", warning=True)
