"""Between the shim's words and the domain's: exit records, stops, steps, log records."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from runner_agent.domain.assignment import StepKind
from runner_agent.domain.exit_report import ExitReport, Outcome, Progress, StepReport, Usage
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.log import LogKind, LogRecord
from runner_agent.domain.messages import StopPhase
from runner_agent.domain.reason import Reason
from runner_agent.execution import log_reader
from runner_agent.shim import messages as shim
from runner_agent.shim.digest import LogDigest

# What trying again cannot heal, on this runner or another one.
_PERMANENT = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.E2BIG, errno.ENOTDIR, errno.ELOOP})
_LOG_KINDS = {
    log_reader.STDOUT: LogKind.STDOUT,
    log_reader.STDERR: LogKind.STDERR,
    log_reader.PTY: LogKind.PTY,
    log_reader.SYSTEM: LogKind.SYSTEM,
}


def report_of(record: shim.ExitRecord, step_names: Sequence[str] = ()) -> ExitReport:
    """What the server is told of an exit record."""
    marks = {mark.phase: mark.at_ns for mark in record.stop_marks}
    failed_to_start = record.outcome is shim.Outcome.START_FAILED
    return ExitReport(
        outcome=Outcome(record.outcome.value),
        reason=Reason(record.reason.value),
        exit_code=record.exit_code,
        signal=record.signal,
        error_message=record.message,
        steps=tuple(step_report(step, step_names) for step in record.steps),
        stopped_by=None if record.stopped_by is None else Reason(record.stopped_by.value),
        tree_empty=record.tree_empty,
        survivors_killed=record.survivors_killed,
        final_offset=record.final_offset,
        digest=record.digest or "",
        gaps=record.gaps,
        started_at_ns=record.started_at_ns,
        ended_at_ns=record.ended_at_ns,
        result_data=record.result_json or "",
        log_counted=record.outcome not in (shim.Outcome.SHIM_DIED, shim.Outcome.HOST_REBOOTED),
        permanent=record.permanent
        or (failed_to_start and any(step.spawn_errno in _PERMANENT for step in record.steps)),
        cpu_s=record.usage.cpu_user_s + record.usage.cpu_system_s,
        max_rss_bytes=record.usage.max_rss_bytes,
        usage_source=record.usage.source,
        signalled_at_ns=marks.get(shim.Phase.SIGNALLED),
        killed_at_ns=marks.get(shim.Phase.KILLED),
        progress=None if record.progress is None else progress_of(record.progress),
        result_error=record.result_error,
        usage=None if record.usage.source == "none" else usage_of(record.usage),
    )


def progress_of(told: shim.Progress) -> Progress:
    """How far the run says it has come."""
    percent = None if told.fraction is None else 100 * told.fraction
    return Progress(percent=percent, stage=told.stage, note=told.text, at_ns=told.at_ns)


def usage_of(usage: shim.Usage) -> Usage:
    """What the attempt has used."""
    return Usage(
        cpu_s=usage.cpu_user_s + usage.cpu_system_s,
        cpu_source=usage.source,
        max_rss_bytes=usage.max_rss_bytes,
        max_rss_source=usage.max_rss_source,
        read_bytes=usage.read_bytes,
        written_bytes=usage.written_bytes,
        io_source=usage.io_source,
    )


def record_of(key: AttemptKey, report: ExitReport) -> shim.ExitRecord:
    """The exit record of an attempt that never had a shim."""
    return shim.ExitRecord(
        run_id=key.run_id,
        epoch=key.lease_epoch,
        outcome=shim.Outcome(report.outcome.value),
        reason=shim_reason(report.reason),
        message=report.error_message,
        stopped_by=None if report.stopped_by is None else shim_reason(report.stopped_by),
        tree_empty=True,
        kill_confirmed=True,
        digest=LogDigest().hex(),
        ended_at_ns=report.ended_at_ns,
        permanent=report.permanent,
    )


def shim_reason(reason: Reason) -> shim.Reason:
    """The shim knows those reasons that a host can give or be told; any other stop was ordered by force."""
    known = shim.Reason._value2member_map_.get(reason.value)
    return known if isinstance(known, shim.Reason) else shim.Reason.FORCED


def step_report(step: shim.StepRecord, step_names: Sequence[str]) -> StepReport:
    """How one step ended."""
    return StepReport(
        index=step.index,
        kind=StepKind(step.kind.value),
        name=step_names[step.index] if step.index < len(step_names) else "",
        exit_code=step.exit_code,
        signal=step.signal,
        started_at_ns=step.started_at_ns,
        ended_at_ns=step.ended_at_ns,
        error_message=step.spawn_message,
    )


def stop_phase(phase: shim.Phase) -> StopPhase:
    """How far a stop has come."""
    return StopPhase(phase.value)


def log_record(item: log_reader.LogRecord | log_reader.LogGap) -> LogRecord:
    """A record of the spool, or a gap in it, as it goes on the wire."""
    if isinstance(item, log_reader.LogGap):
        return LogRecord(kind=LogKind.SYSTEM, step=0, at_ns=0, gap_bytes=item.end - item.start)
    kind = _LOG_KINDS.get(item.kind, LogKind.SYSTEM)
    return LogRecord(kind=kind, step=item.step, at_ns=item.time_ns, data=item.data)
