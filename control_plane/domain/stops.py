"""Ending a run early: cancel, force, the server's own timeouts, and what the runner tells about a stop."""

from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.attempt import STOP_PHASE_ORDER, AttemptEvent, AttemptState, StopPhase, StopRecord
from control_plane.domain.case import Case, concluded
from control_plane.domain.copies import replace
from control_plane.domain.errors import ErrorCode, FailedPrecondition
from control_plane.domain.history import RunEventType
from control_plane.domain.limits import DEFAULT_STOP_SIGNAL
from control_plane.domain.reason import Reason, sentence
from control_plane.domain.run import RUN_TERMINAL, RunEvent, RunState
from control_plane.domain.session import ExitRecord, Stop, StopStatus, Withdraw


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """Who wants a run to end, and how. `signal` and `grace_s` win over the spec's when they are given."""

    reason: Reason = Reason.USER_CANCEL
    actor: str = ""
    note: str = ""
    signal: str = ""
    grace_s: float | None = None


def stop_message(case: Case) -> Stop:
    """The order as it is sent, also again: it is a row first, so every copy says the same."""
    record = case.live.stop
    if record is None:
        raise ValueError(f"attempt {case.live.key} has no stop")
    return Stop(key=case.live.key, reason=record.reason, signal=record.signal, grace_s=record.grace_s)


def cancel(case: Case, order: CancelOrder, now: datetime) -> Case:
    """Answered OK means durable. On CANCELLING and CANCELLED nothing changes: the first requester is kept.

    Raises FailedPrecondition RUN_FINISHED on every other terminal state.
    """
    if case.run.state is RunState.CANCELLED:
        return case
    if case.run.state in RUN_TERMINAL:
        raise FailedPrecondition(
            ErrorCode.RUN_FINISHED,
            f"Run {case.run.id} is already {case.run.state}.",
            metadata={"state": case.run.state},
        )
    if case.run.state is RunState.CANCELLING:
        case = case.advance_run(RunEvent.CANCEL_REQUESTED).advance_attempt(AttemptEvent.STOP_REQUESTED)
        return case.tell(stop_message(case))
    if case.run.state is RunState.QUEUED:
        return concluded(cancelled(_requested(case, order, now), now), now)
    if case.live.state is AttemptState.OFFERED:
        case = case.tell(Withdraw(key=case.live.key)).advance_attempt(AttemptEvent.STOP_REQUESTED)
        case = replace(case, attempt=replace(case.live, reason=order.reason, ended_at=now))
        case = _requested(case, order, now).advance_run(RunEvent.ENDED)
        return concluded(cancelled(case, now), now)
    case = _order_stop(case, order, now)
    case = _requested(case, order, now)
    return concluded(case.tell(stop_message(case)), now)


def force(case: Case, order: CancelOrder, lease_epoch: int, now: datetime) -> Case:
    """Terminal at once, under a new fence: whatever the runner still does is fenced, and killed when it is heard."""
    if case.run.state is RunState.QUEUED or case.run.state in RUN_TERMINAL:
        return cancel(case, order, now)
    if case.live.state is AttemptState.OFFERED:
        case = cancel(case, order, now)
        return replace(case, run=replace(case.run, lease_epoch=lease_epoch))
    was_cancelling = case.run.state is RunState.CANCELLING
    case = _order_stop(case, order, now)
    case = case.tell(stop_message(case))
    case = case.advance_run(RunEvent.CANCEL_REQUESTED) if was_cancelling else _requested(case, order, now)
    case = case.advance_attempt(AttemptEvent.FORCED).advance_run(RunEvent.ENDED)
    text = sentence(Reason.FORCED)
    attempt = replace(case.live, reason=Reason.FORCED, error_message=text, ended_at=now)
    run = replace(case.run, cancel_reason=Reason.FORCED, lease_epoch=lease_epoch)
    return concluded(cancelled(replace(case, run=run, attempt=attempt), now, actor=order.actor), now)


def stop_by_timeout(case: Case, reason: Reason, now: datetime) -> Case:
    """STARTING, RUNNING: the start timeout or the deadline. The run stays as it is until the attempt has ended."""
    case = _order_stop(case, CancelOrder(reason=reason), now)
    case = case.record(RunEventType.STOP_REQUESTED, now, reason=reason)
    return concluded(case.tell(stop_message(case)), now)


def expire(case: Case, reason: Reason, now: datetime) -> Case:
    """QUEUED: it waited too long (QUEUE_TIMEOUT), or its deadline passed (DEADLINE_PASSED)."""
    case = case.advance_run(RunEvent.QUEUE_TIMED_OUT)
    run = replace(case.run, reason=reason, error_message=sentence(reason), completed_at=now)
    return concluded(replace(case, run=run).record(RunEventType.EXPIRED, now, reason=reason), now)


def end_if_task_deleted(case: Case, now: datetime) -> Case:
    """A run whose task is gone does not wait in the queue again."""
    if not case.task_deleted or case.run.state is not RunState.QUEUED:
        return case
    return cancelled(_requested(case, CancelOrder(reason=Reason.TASK_DELETED), now), now)


def stop_progressed(case: Case, status: StopStatus, now: datetime) -> Case:
    """What the host says about a stop; phases go forwards only. It is evidence: it counts in every state."""
    record = case.live.stop
    if record is None or STOP_PHASE_ORDER.index(status.phase) <= STOP_PHASE_ORDER.index(record.phase):
        return case
    record = replace(record, phase=status.phase, survivors=max(record.survivors, status.survivors))
    at = status.at or now
    match status.phase:
        case StopPhase.RECEIVED:
            record = replace(record, received_at=at, received_heard_at=now)
        case StopPhase.SIGNALLED:
            record = replace(record, signalled_at=at, signalled_heard_at=now)
        case StopPhase.KILLED:
            record = replace(record, killed_at=at, killed_heard_at=now)
        case StopPhase.REQUESTED:
            pass
    case = replace(case, attempt=replace(case.live, stop=record))
    return case.record(RunEventType.STOP_PROGRESSED, now, reason=record.reason, note=status.phase)


def stopped_by_host(case: Case, reason: Reason, record: ExitRecord, now: datetime) -> Case:
    """STOP_REQUESTED by the exit record's own word: a later phase implies the earlier ones."""
    case = _order_stop(case, CancelOrder(reason=reason), now)
    stop = case.live.stop
    if stop is None:
        raise ValueError(f"attempt {case.live.key} has no stop")
    phase = StopPhase.SIGNALLED if record.killed_at is None else StopPhase.KILLED
    stop = replace(
        stop,
        phase=phase,
        signalled_at=record.signalled_at,
        signalled_heard_at=None if record.signalled_at is None else now,
        killed_at=record.killed_at,
        killed_heard_at=None if record.killed_at is None else now,
        survivors=record.survivors_killed,
    )
    case = replace(case, attempt=replace(case.live, stop=stop))
    return case.record(RunEventType.STOP_REQUESTED, now, reason=reason)


def _order_stop(case: Case, order: CancelOrder, now: datetime) -> Case:
    """STOP_REQUESTED on a held attempt; the first reason stored stays."""
    case = case.advance_attempt(AttemptEvent.STOP_REQUESTED)
    if case.live.stop is not None:
        return case
    record = StopRecord(
        reason=order.reason,
        phase=StopPhase.REQUESTED,
        requested_at=now,
        signal=order.signal or case.spec.stop_signal or DEFAULT_STOP_SIGNAL,
        grace_s=case.spec.grace if order.grace_s is None else order.grace_s,
        requested_by=order.actor,
        note=order.note,
    )
    return replace(case, attempt=replace(case.live, stop=record))


def _requested(case: Case, order: CancelOrder, now: datetime) -> Case:
    case = case.advance_run(RunEvent.CANCEL_REQUESTED)
    run = replace(
        case.run,
        cancel_requested_at=now,
        cancel_reason=order.reason,
        cancelled_by=order.actor,
        cancel_note=order.note,
    )
    case = replace(case, run=run)
    return case.record(RunEventType.STOP_REQUESTED, now, reason=order.reason, note=order.note, actor=order.actor)


def cancelled(case: Case, now: datetime, *, actor: str = "", note: str = "") -> Case:
    """The run is CANCELLED: its reason is the cancel's. `note` replaces the requester's in the event."""
    reason = case.run.cancel_reason or Reason.USER_CANCEL
    run = replace(case.run, reason=reason, error_message=sentence(reason), completed_at=now)
    case = replace(case, run=run)
    note = note or run.cancel_note
    return case.record(RunEventType.CANCELLED, now, reason=reason, note=note, actor=actor or run.cancelled_by)
