"""What the server's verdicts mean: keep, start, stop, release, tell the exit, fence. Also the loss deadline's base."""

from __future__ import annotations

from typing import assert_never

from runner_agent.domain.assignment import Assignment
from runner_agent.domain.attempt_table import Cue
from runner_agent.domain.attempts import apply, order_stop, tell_exit, tell_started
from runner_agent.domain.changes import changed
from runner_agent.domain.held import OVER, Held, Phase
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.messages import HeartbeatAck, Stop, Verdict, VerdictKind, Welcome
from runner_agent.domain.outputs import CloseSession, HeardLog, OpenLog, RenewLoss, SetLogLimits
from runner_agent.domain.reason import Reason
from runner_agent.domain.state import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    SECOND_NS,
    SessionPhase,
    Turn,
    older_attempt_lives,
)

MIN_INTERVAL_S = 0.1
_SHIM_LIVES = frozenset({Phase.FORKING, Phase.RUNNING, Phase.STOPPING})


def welcome(turn: Turn, message: Welcome) -> None:
    """Work may begin. A Welcome that nobody waits for, or in a protocol that we do not speak, is not believed."""
    if turn.session.phase is not SessionPhase.GREETING:
        turn.note("unexpected_welcome", warning=True)
        return
    if not PROTOCOL_MIN <= message.protocol <= PROTOCOL_MAX:
        turn.change_session(phase=SessionPhase.CLOSING)
        turn.emit(CloseSession(reason=f"the server speaks protocol {message.protocol}, this agent does not"))
        return
    hello_sent = turn.session.opened_boot_ns
    turn.change_session(
        phase=SessionPhase.WELCOMED,
        heard_boot_ns=turn.now,
        interval_s=max(MIN_INTERVAL_S, message.heartbeat_interval_s),
        lease_s=message.lease_s,
        next_heartbeat_boot_ns=turn.now + int(message.heartbeat_interval_s * SECOND_NS),
    )
    turn.change(server_draining=message.draining)
    turn.emit(SetLogLimits(window_bytes=message.log_window_bytes, max_chunk_bytes=message.max_chunk_bytes))
    turn.note("welcomed", detail=f"session {message.session_epoch} as {message.runner_name}")
    _answer(turn, message.verdicts, hello_sent)
    for held in tuple(turn.held.values()):  # what happened between Hello and Welcome
        _catch_up(turn, held)


def heartbeat_ack(turn: Turn, message: HeartbeatAck) -> None:
    """Verdicts on the held set of heartbeat `seq`; they renew from the instant when that heartbeat left."""
    session = turn.session
    sent = dict(session.statements).get(message.seq)
    interval_s = max(MIN_INTERVAL_S, message.next_interval_s)
    due = turn.now + int(interval_s * SECOND_NS)
    turn.change_session(interval_s=interval_s, next_heartbeat_boot_ns=min(session.next_heartbeat_boot_ns, due))
    if sent is None:
        turn.note("unexpected_heartbeat_ack", detail=str(message.seq), warning=True)
        return
    _answer(turn, message.verdicts, sent)


def assign(turn: Turn, assignment: Assignment) -> None:
    """Run this now. Its base is what caused it: our first word on the attempt in this session, or a renewing one.

    An attempt forks once: only ACCEPTED moves. While an older attempt of the run may live here nothing is forked; that
    one is fenced, and the verdict on a later heartbeat brings the Assignment again.
    """
    key = assignment.key
    held = turn.held.get(key)
    if held is None:
        return
    if held.phase is not Phase.ACCEPTED:
        apply(turn, key, Cue.ASSIGNED)
        return
    older = older_attempt_lives(turn.held, key)
    if older is not None:
        turn.note("older_attempt_lives", older, f"epoch {key.lease_epoch} waits for its end", warning=True)
        fence(turn, older, None)
        return
    if held.told_boot_ns is None:
        turn.note("assignment_without_acceptance", key, warning=True)
        return
    held = changed(
        held,
        assignment=assignment,
        artifacts=bool(assignment.artifacts),
        lost_after_s=assignment.lost_after_s,
        grace_s=assignment.grace_s,
        stop_signal=assignment.stop_signal,
        base_boot_ns=max(held.told_boot_ns, held.base_boot_ns or 0),
        assigned_boot_ns=turn.now,
    )
    turn.put(held)
    deadline = held.loss_deadline_boot_ns
    late = deadline is not None and turn.now >= deadline
    apply(turn, key, Cue.ASSIGNED_LATE if late else Cue.ASSIGNED)


def fence(turn: Turn, key: AttemptKey, stop: Stop | None) -> None:
    """Another attempt holds the run: end this tree at once, then report."""
    if stop is None:
        stop = Stop(key=key, reason=Reason.FORCED, signal="SIGKILL", grace_s=0.0)
    order_stop(turn, stop, Cue.FENCED)


def _answer(turn: Turn, verdicts: tuple[Verdict, ...], sent_boot_ns: int) -> None:
    for verdict in verdicts:
        held = turn.held.get(verdict.key)
        if held is None:
            continue
        if verdict.renewed:
            held = _renew(turn, held, sent_boot_ns)
        if verdict.exit_stored and held.phase in OVER:
            turn.put(changed(held, exit_stored=True))
        _wanted_log(turn, verdict)
        _obey(turn, verdict)


def _renew(turn: Turn, held: Held, sent_boot_ns: int) -> Held:
    if held.base_boot_ns is not None and sent_boot_ns <= held.base_boot_ns:
        return held
    held = changed(held, base_boot_ns=sent_boot_ns)
    turn.put(held)
    deadline = held.loss_deadline_boot_ns
    if deadline is not None and held.phase in _SHIM_LIVES:
        turn.emit(RenewLoss(key=held.key, deadline_boot_ns=deadline))
    return held


def _wanted_log(turn: Turn, verdict: Verdict) -> None:
    held = turn.held[verdict.key]
    if verdict.kind in (VerdictKind.UNKNOWN, VerdictKind.RELEASE, VerdictKind.START, VerdictKind.UNSPECIFIED):
        return
    if held.log_open:
        turn.emit(HeardLog(key=held.key, committed_offset=verdict.resume_offset))
        return
    turn.put(changed(held, log_open=True))
    turn.emit(OpenLog(key=held.key, offset=verdict.resume_offset, spooled_offset=held.spooled_offset))


def _obey(turn: Turn, verdict: Verdict) -> None:
    match verdict.kind:
        case VerdictKind.KEEP:
            return
        case VerdictKind.UNSPECIFIED:
            turn.note("verdict_not_understood", verdict.key, warning=True)
        case VerdictKind.START:
            if verdict.assignment is not None:
                assign(turn, verdict.assignment)
        case VerdictKind.STOP:
            stop = verdict.stop or _plain_stop(turn.held[verdict.key])
            order_stop(turn, stop, Cue.STOP_ORDERED)
        case VerdictKind.RELEASE:
            apply(turn, verdict.key, Cue.RELEASED)
        case VerdictKind.SEND_EXIT:
            apply(turn, verdict.key, Cue.EXIT_WANTED)
        case VerdictKind.UNKNOWN:
            apply(turn, verdict.key, Cue.UNKNOWN)
        case VerdictKind.FENCED:
            fence(turn, verdict.key, verdict.stop)
        case _:
            assert_never(verdict.kind)


def _plain_stop(held: Held) -> Stop:
    return Stop(key=held.key, reason=Reason.USER_CANCEL, signal=held.stop_signal, grace_s=held.grace_s)


def _catch_up(turn: Turn, held: Held) -> None:
    if held.phase in OVER:
        tell_exit(turn, held)
    elif held.phase is Phase.ACCEPTED and held.told_boot_ns is None:
        apply(turn, held.key, Cue.OFFERED)
    elif held.phase in _SHIM_LIVES:
        tell_started(turn, held)
