"""How an attempt ends, and what becomes of its run: over, or queued again."""

from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.attempt import ATTEMPT_TABLE, AttemptEvent, AttemptState
from control_plane.domain.case import Case, concluded
from control_plane.domain.copies import replace
from control_plane.domain.evidence import fill_exit, host_time, nothing_left
from control_plane.domain.history import RunEventType
from control_plane.domain.machine import allows
from control_plane.domain.reason import STOPS_BY_CANCEL, STOPS_BY_RUNNER, STOPS_BY_TIMEOUT, Reason, sentence
from control_plane.domain.retry import infra_left, next_try_at, retried_when_lost, try_left
from control_plane.domain.run import RunEvent, RunState
from control_plane.domain.session import ExitOutcome, ExitRecord
from control_plane.domain.spec import RETRY_ON_FAILED, RETRY_ON_TIMEOUT
from control_plane.domain.stops import cancelled, end_if_task_deleted, stopped_by_host

UNPROVEN = "not tried again: its process tree is not proven empty"
TOO_LATE = "not tried again: its deadline is too near"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """When a decision is taken, with the chance (in [0, 1)) that a retry's delay needs."""

    now: datetime
    jitter: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fate:
    """What the end of an attempt means for its run unless the run is being cancelled."""

    event: RunEvent
    kind: RunEventType
    retry: bool = False
    note: str = ""


def started(case: Case, pid: int, started_at: datetime | None, now: datetime) -> Case:
    """The first MAIN step was executed. In STOPPING (and later) it moves nothing and fills in what it says."""
    attempt = case.live
    began_at = attempt.started_at or host_time(started_at, attempt.offered_at, now)
    case = replace(case, attempt=replace(attempt, pid=attempt.pid or pid, started_at=began_at))
    if not allows(ATTEMPT_TABLE, attempt.state, AttemptEvent.STARTED):
        return case
    case = case.advance_attempt(AttemptEvent.STARTED).advance_run(RunEvent.STARTED)
    run = replace(case.run, started_at=case.run.started_at or case.live.started_at)
    return concluded(replace(case, run=run).record(RunEventType.STARTED, now), now)


def exited(case: Case, exit_record: ExitRecord, at: Instant) -> Case:
    """A live attempt is over by its host's word: accepted in every held state, whatever message was lost before."""
    case = fill_exit(case, exit_record, at.now)
    match exit_record.outcome:
        case ExitOutcome.SHIM_DIED | ExitOutcome.HOST_REBOOTED:
            rebooted = exit_record.outcome is ExitOutcome.HOST_REBOOTED
            reason = Reason.HOST_REBOOTED if rebooted else Reason.SHIM_DIED
            return lost(case, reason, at, proven=rebooted or exit_record.tree_empty)
        case ExitOutcome.NOT_STARTED if case.live.state is not AttemptState.STOPPING:
            return _not_started(case, exit_record, at)
        case ExitOutcome.START_FAILED if case.live.state is not AttemptState.STOPPING:
            return _start_failed(case, exit_record, at)
        case _:
            return _ended(case, exit_record, at)


def lost(case: Case, reason: Reason, at: Instant, *, proven: bool, note: str = "") -> Case:
    """STARTING, RUNNING, STOPPING: given up. `proven`: no process of it can live any more (deadline, reboot, sweep)."""
    case = case.advance_attempt(AttemptEvent.LOST)
    return _end_lost(case, reason, at, proven=proven, note=note)


def start_failed_by_server(case: Case, detail: str, at: Instant) -> Case:
    """A secret has gone by the Assignment. It cannot heal by trying again."""
    record = ExitRecord(
        outcome=ExitOutcome.START_FAILED,
        reason=Reason.SECRET_UNAVAILABLE,
        error_message=detail,
        permanent=True,
    )
    return _start_failed(case, record, at)


def _not_started(case: Case, record: ExitRecord, at: Instant) -> Case:
    if case.live.state is not AttemptState.STARTING:
        detail = "it was reported as started before, and now as not started"
        return lost(case, Reason.PROTOCOL_ERROR, at, proven=record.tree_empty, note=detail)
    reason = record.reason or Reason.NOT_STARTED
    case = _attempt_over(case.advance_attempt(AttemptEvent.NOT_STARTED), reason, record.error_message, at)
    case = replace(case, run=replace(case.run, infra_retries=case.run.infra_retries + 1))
    if not infra_left(case.run):
        return _fate(case, reason, _Fate(event=RunEvent.GAVE_UP, kind=RunEventType.FAILED), at)
    case = case.advance_run(RunEvent.RETURNED)
    case = replace(case, run=replace(case.run, queue_rank=0))
    case = case.record(RunEventType.RETURNED, at.now, reason=reason, note=record.error_message)
    return concluded(end_if_task_deleted(case, at.now), at.now)


def _start_failed(case: Case, record: ExitRecord, at: Instant) -> Case:
    if case.live.state is not AttemptState.STARTING:
        detail = "it was reported as started before, and now as one that could not start"
        return lost(case, Reason.PROTOCOL_ERROR, at, proven=record.tree_empty, note=detail)
    reason = record.reason or Reason.SPAWN_FAILED
    case = _attempt_over(case.advance_attempt(AttemptEvent.START_FAILED), reason, record.error_message, at)
    case = replace(case, run=replace(case.run, tries=case.run.tries + 1))
    retry = not record.permanent and try_left(case.spec, case.run, RETRY_ON_FAILED, reason)
    return _fate(case, reason, _Fate(event=RunEvent.GAVE_UP, kind=RunEventType.FAILED, retry=retry), at)


def _ended(case: Case, record: ExitRecord, at: Instant) -> Case:
    """An exit of a started attempt, or any end of one that was being stopped: the first stored stop decides."""
    if case.live.state is not AttemptState.STOPPING:
        if case.live.state is AttemptState.STARTING:
            case = started(case, record.pid, record.started_at, at.now)
        by_host = record.stopped_by
        if by_host is None or by_host in STOPS_BY_CANCEL or by_host not in STOPS_BY_TIMEOUT | STOPS_BY_RUNNER:
            return _ended_by_itself(case, record, at)
        case = stopped_by_host(case, by_host, record, at.now)
    stop = case.live.stop
    reason = Reason.PROTOCOL_ERROR if stop is None else stop.reason
    if reason in STOPS_BY_CANCEL:
        case = _attempt_over(case.advance_attempt(AttemptEvent.STOPPED_BY_CANCEL), reason, "", at)
        fate = _Fate(event=RunEvent.ENDED, kind=RunEventType.CANCELLED, note=_too_late(case))
        return _fate(case, reason, fate, at)
    if reason in STOPS_BY_TIMEOUT:
        return _stopped_by_timeout(case, reason, record, at)
    case = case.advance_attempt(AttemptEvent.STOPPED_BY_RUNNER)
    return _end_lost(case, reason, at, proven=record.tree_empty)


def _too_late(case: Case) -> str:
    """Said in the event when the program had ended before the stop's signal reached it."""
    stop, code = case.live.stop, case.live.exit_code
    if stop is None or stop.signalled_at is not None or code is None:
        return ""
    return f"it had ended with exit code {code} before the signal"


def _ended_by_itself(case: Case, record: ExitRecord, at: Instant) -> Case:
    if record.outcome is ExitOutcome.ENDED_WELL:
        reason = record.reason or Reason.EXIT_ZERO
        case = _attempt_over(case.advance_attempt(AttemptEvent.ENDED_WELL), reason, record.error_message, at)
        return _fate(case, reason, _Fate(event=RunEvent.SUCCEEDED, kind=RunEventType.SUCCEEDED), at)
    reason = record.reason or (Reason.SIGNALLED if record.signal else Reason.EXIT_NONZERO)
    case = _attempt_over(case.advance_attempt(AttemptEvent.ENDED_BADLY), reason, record.error_message, at)
    case = replace(case, run=replace(case.run, tries=case.run.tries + 1))
    left = try_left(case.spec, case.run, RETRY_ON_FAILED, reason)
    fate = _Fate(event=RunEvent.GAVE_UP, kind=RunEventType.FAILED)
    return _fate(case, reason, _if_proven(fate, left, record.tree_empty), at)


def _stopped_by_timeout(case: Case, reason: Reason, record: ExitRecord, at: Instant) -> Case:
    case = _attempt_over(case.advance_attempt(AttemptEvent.STOPPED_BY_TIMEOUT), reason, record.error_message, at)
    case = replace(case, run=replace(case.run, tries=case.run.tries + 1))
    can = reason is not Reason.DEADLINE_PASSED
    left = can and try_left(case.spec, case.run, RETRY_ON_TIMEOUT, reason)
    fate = _Fate(event=RunEvent.TIMED_OUT, kind=RunEventType.TIMED_OUT)
    return _fate(case, reason, _if_proven(fate, left, nothing_left(case.live, record)), at)


def _end_lost(case: Case, reason: Reason, at: Instant, *, proven: bool, note: str = "") -> Case:
    case = _attempt_over(case, reason, note, at)
    case = replace(case, run=replace(case.run, infra_retries=case.run.infra_retries + 1))
    left = retried_when_lost(case.spec) and infra_left(case.run)
    fate = _Fate(event=RunEvent.LOST, kind=RunEventType.LOST, note=note)
    return _fate(case, reason, _if_proven(fate, left, proven), at)


def _if_proven(fate: _Fate, left: bool, proven: bool) -> _Fate:
    """A new attempt beside a process that may still live would be two of one run."""
    if left and not proven:
        return replace(fate, note="; ".join(part for part in (fate.note, UNPROVEN) if part))
    return replace(fate, retry=left)


def _attempt_over(case: Case, reason: Reason, detail: str, at: Instant) -> Case:
    attempt = case.live
    text = sentence(reason, exit_code=attempt.exit_code, signal=attempt.signal, detail=detail)
    return replace(
        case, attempt=replace(attempt, reason=reason, error_message=text, ended_at=attempt.ended_at or at.now)
    )


def _fate(case: Case, reason: Reason, fate: _Fate, at: Instant) -> Case:
    """The run's event: ENDED while cancelling, WILL_RETRY where that is allowed, else the end itself."""
    if case.run.state is RunState.CANCELLING:
        case = case.advance_run(RunEvent.ENDED)
        return concluded(cancelled(_shown_on_run(case, reason, at), at.now, note=fate.note), at.now)
    not_before = next_try_at(case.spec, case.run, at.now, at.jitter) if fate.retry else None
    if not_before is not None:
        return _will_retry(case, reason, not_before, at)
    if fate.retry:
        fate = replace(fate, note=TOO_LATE)
    case = _shown_on_run(case.advance_run(fate.event), reason, at)
    return concluded(case.record(fate.kind, at.now, reason=reason, note=fate.note), at.now)


def _will_retry(case: Case, reason: Reason, not_before: datetime, at: Instant) -> Case:
    case = case.advance_run(RunEvent.WILL_RETRY)
    run = replace(
        case.run,
        not_before=not_before,
        queue_rank=1,
        retry_count=case.run.retry_count + 1,
        result_data="",
        result_error="",
    )
    case = end_if_task_deleted(replace(case, run=run).record(RunEventType.WILL_RETRY, at.now, reason=reason), at.now)
    if case.run.state is not RunState.QUEUED:
        # It was the last attempt after all: what it left is the run's.
        case = replace(case, run=replace(case.run, exit_code=case.live.exit_code, signal=case.live.signal))
    return concluded(case, at.now)


def _shown_on_run(case: Case, reason: Reason | None, at: Instant) -> Case:
    """A finished run shows what its last attempt left."""
    attempt = case.live
    run = replace(
        case.run,
        reason=reason,
        error_message=attempt.error_message,
        exit_code=attempt.exit_code,
        signal=attempt.signal,
        completed_at=at.now,
    )
    return replace(case, run=run)
