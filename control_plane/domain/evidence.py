"""What a host says about an attempt of its own, in every state: it is filled in once and moves nothing."""

from datetime import datetime

from control_plane.domain import limits
from control_plane.domain.artifact import awaiting
from control_plane.domain.attempt import ATTEMPT_TERMINAL, Attempt, StepResult, StopPhase
from control_plane.domain.case import Case, concluded
from control_plane.domain.copies import replace
from control_plane.domain.history import RunEventType
from control_plane.domain.log import LogGap
from control_plane.domain.logs import LogSeal
from control_plane.domain.progress import Progress
from control_plane.domain.run import RUN_TERMINAL
from control_plane.domain.session import ExitOutcome, ExitRecord


def host_time(told: datetime | None, earliest: datetime, now: datetime) -> datetime:
    """A time by the host's clock, kept in the order that the server knows: not before `earliest`, not after now."""
    return now if told is None else max(earliest, min(told, now))


def nothing_left(attempt: Attempt, record: ExitRecord) -> bool:
    """The host's word that no process of it lives: the kernel's (empty tree, another boot), or that none ever ran."""
    if record.outcome is ExitOutcome.NOT_STARTED and attempt.started_at is None:
        return True
    return record.tree_empty or record.outcome is ExitOutcome.HOST_REBOOTED


def fill_exit(case: Case, record: ExitRecord, now: datetime) -> Case:
    """The exit record's facts on its attempt. The result goes to the run while it is active."""
    attempt = case.live
    stop = attempt.stop
    if stop is not None:
        stop = replace(
            stop,
            signalled_at=stop.signalled_at or record.signalled_at,
            signalled_heard_at=_heard(stop.signalled_heard_at, stop.signalled_at, record.signalled_at, now),
            killed_at=stop.killed_at or record.killed_at,
            killed_heard_at=_heard(stop.killed_heard_at, stop.killed_at, record.killed_at, now),
            survivors=max(stop.survivors, record.survivors_killed),
            phase=StopPhase.KILLED if record.killed_at is not None else stop.phase,
        )
    started_at = attempt.started_at
    if started_at is None and record.started_at is not None:
        started_at = host_time(record.started_at, attempt.offered_at, now)
    ended_at = attempt.ended_at or host_time(record.ended_at, started_at or attempt.offered_at, now)
    filled = replace(
        attempt,
        exit_stored=True,
        exit_code=record.exit_code,
        signal=record.signal,
        steps=record.steps or attempt.steps,
        pid=attempt.pid or record.pid,
        started_at=started_at,
        ended_at=ended_at,
        kill_confirmed=nothing_left(attempt, record),
        survivors_killed=record.survivors_killed,
        final_offset=record.final_offset,
        expected_digest=record.digest,
        gaps=record.gaps,
        log_counted=record.log_counted,
        cpu_s=record.cpu_s,
        max_rss_bytes=record.max_rss_bytes,
        usage_source=record.usage_source,
        usage=record.usage,
        stop=stop,
        workspace_path=record.workspace_path[: limits.PATH_BYTES],
        workspace_kept_until=record.workspace_kept_until,
    )
    if case.spec.artifacts and case.run.settled_at is None:
        filled = awaiting(filled, record.outcome, now)
    case = progressed(replace(case, attempt=with_missing_bytes(filled)), record.progress, now)
    return _with_result(case, record)


def with_missing_bytes(attempt: Attempt) -> Attempt:
    """A log that was sealed before it was whole says what it lacks: a gap as far as its exit record counts, else that
    nobody knows how much."""
    if attempt.log_sealed_at is None or attempt.log_complete:
        return attempt
    if not attempt.exit_stored or attempt.final_offset is None:
        return replace(attempt, log_counted=False)
    if attempt.final_offset <= attempt.log_bytes:
        return attempt
    kept = tuple(gap for gap in attempt.gaps if gap.from_offset < attempt.log_bytes)
    missing = LogGap(from_offset=attempt.log_bytes, to_offset=attempt.final_offset)
    return replace(attempt, gaps=(*kept, missing))


def sealed(case: Case, seal: LogSeal, now: datetime) -> Case:
    """The attempt's log gets no more bytes; with its last log the run is settled."""
    attempt = replace(
        case.live,
        log_bytes=seal.bytes,
        log_digest=seal.digest,
        log_complete=seal.complete,
        log_sealed_at=now,
    )
    case = replace(case, attempt=with_missing_bytes(attempt))
    if not seal.complete:
        case = case.record(RunEventType.EVIDENCE_ADDED, now, note=seal.note or "the log is incomplete")
    return concluded(case, now)


def _heard(known: datetime | None, known_at: datetime | None, told: datetime | None, now: datetime) -> datetime | None:
    """When the server first knew of a phase: what was told only now was heard only now."""
    return known if known_at is not None or told is None else now


def late_exit(case: Case, record: ExitRecord, now: datetime) -> Case:
    """The exit record of an attempt that is over: evidence only. The first one stays, repeats are acked for ever."""
    if case.live.state not in ATTEMPT_TERMINAL:
        raise ValueError(f"attempt {case.live.key} is not over")
    if case.live.exit_stored:
        return case
    case = fill_exit(case, record, now)
    note = str(record.outcome) if record.exit_code is None else f"{record.outcome}, exit code {record.exit_code}"
    newest = all(each.lease_epoch < case.live.lease_epoch for each in case.others)
    if newest and case.run.state in RUN_TERMINAL:
        case = replace(case, run=replace(case.run, exit_code=record.exit_code, signal=record.signal))
    case = case.record(RunEventType.EVIDENCE_ADDED, now, reason=record.reason, note=note)
    return concluded(case, now) if case.run.state in RUN_TERMINAL else case


def step_ended(case: Case, step: StepResult) -> Case:
    """One more step's end; a repeat (the same index) changes nothing."""
    attempt = case.live
    if attempt.exit_stored or any(known.index == step.index for known in attempt.steps):
        return case
    steps = tuple(sorted((*attempt.steps, step), key=lambda each: each.index))
    return replace(case, attempt=replace(attempt, steps=steps[: limits.STEPS]))


def progressed(case: Case, told: Progress | None, now: datetime) -> Case:
    """How far the attempt says it has come, which never goes back. It is no event, and a repeat is nothing."""
    known = case.live.progress
    if told is None:
        return case
    said = [each.percent for each in (known, told) if each is not None and each.percent is not None]
    newest = Progress(
        percent=max((min(100.0, max(0.0, percent)) for percent in said), default=None),
        stage=told.stage[: limits.PROGRESS_STAGE_CHARACTERS],
        note=told.note[: limits.PROGRESS_NOTE_CHARACTERS],
        updated_at=host_time(told.updated_at, case.live.offered_at, now),
    )
    if known is not None and known == replace(newest, updated_at=known.updated_at):
        return case
    case = replace(case, attempt=replace(case.live, progress=newest))
    if case.live.lease_epoch != case.run.lease_epoch:
        return case
    return replace(case, run=replace(case.run, progress=newest))


def _with_result(case: Case, record: ExitRecord) -> Case:
    if case.run.state in RUN_TERMINAL:
        return case
    data, error = record.result_data, record.result_error[: limits.RESULT_ERROR_CHARACTERS]
    if len(data.encode()) > limits.RESULT_BYTES:
        data, error = "", f"the result is larger than {limits.RESULT_BYTES} bytes"
    return replace(case, run=replace(case.run, result_data=data or case.run.result_data, result_error=error))
