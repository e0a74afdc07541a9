"""Messages of the session between the wire and the domain: total in both directions."""

from __future__ import annotations

from typing import assert_never

from banksman.v1 import log_pb2 as log
from banksman.v1 import run_pb2 as run
from banksman.v1 import session_pb2 as wire
from banksman.v1 import spec_pb2 as spec

from runner_agent.domain import log as log_domain
from runner_agent.domain import messages as domain
from runner_agent.domain.exit_report import ExitReport, StepReport
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.reason import Reason
from runner_agent.session.convert_spec import assignment_from, key_from
from runner_agent.session.convert_values import enum_from, seconds, text, timestamp
from runner_agent.session.convert_words import progress_message, usage_message

LOG_KINDS = {kind: log.LogKind.Value(f"LOG_KIND_{kind.value}") for kind in log_domain.LogKind}
_DEFAULT_INTERVAL_S = 5.0
# Of why one attempt was set aside; every heartbeat says it again.
_MESSAGE_CHARACTERS = 1_000


# ---- to the wire -----------------------------------------------------------------------------------------------------


def to_wire(message: domain.RunnerMessage) -> wire.SessionRequest:
    """What the runner says."""
    match message:
        case domain.Hello():
            return wire.SessionRequest(hello=_hello(message))
        case domain.Heartbeat():
            return wire.SessionRequest(heartbeat=_heartbeat(message))
        case domain.OfferReply():
            return wire.SessionRequest(offer_reply=_offer_reply(message))
        case domain.AttemptStarted():
            started = wire.AttemptStarted(
                key=_key(message.key), pid=message.pid, started_at=timestamp(message.started_at_ns)
            )
            return wire.SessionRequest(attempt_started=started)
        case domain.StepEnded():
            event = wire.AttemptEvent(key=_key(message.key), step_ended=_step(message.step))
            return wire.SessionRequest(attempt_event=event)
        case domain.AttemptProgress():
            event = wire.AttemptEvent(key=_key(message.key), progress=progress_message(message.progress))
            return wire.SessionRequest(attempt_event=event)
        case domain.AttemptExited():
            exited = wire.AttemptExited(key=_key(message.key), exit=_exit(message.exit))
            return wire.SessionRequest(attempt_exited=exited)
        case domain.StopStatus():
            return wire.SessionRequest(stop_status=_stop_status(message))
        case log_domain.LogChunk():
            return wire.SessionRequest(log_chunk=_chunk(message))
        case domain.DrainNotice():
            return wire.SessionRequest(drain_notice=wire.DrainNotice(reason=text(message.reason)))
        case _:
            assert_never(message)


def _key(key: AttemptKey) -> wire.AttemptKey:
    return wire.AttemptKey(run_id=key.run_id, lease_epoch=key.lease_epoch)


def _hello(message: domain.Hello) -> wire.Hello:
    return wire.Hello(
        protocol_min=message.protocol_min,
        protocol_max=message.protocol_max,
        agent_version=message.agent_version,
        capabilities=[wire.Capability(name=name, version=version) for name, version in message.capabilities],
        labels=dict(message.labels),
        slots=message.slots,
        boot_id=message.boot_id,
        state_directory_id=message.state_directory_id,
        inventory=[_held(entry) for entry in message.inventory],
        more=message.more,
        warnings=[text(warning) for warning in message.warnings],
        draining=message.draining,
    )


def _heartbeat(message: domain.Heartbeat) -> wire.Heartbeat:
    return wire.Heartbeat(
        seq=message.seq,
        free_slots=message.free_slots,
        load=message.load,
        disk_free_bytes=message.disk_free_bytes,
        draining=message.draining,
        held=[_held(entry) for entry in message.held],
    )


def _held(entry: domain.HeldAttempt) -> wire.HeldAttempt:
    return wire.HeldAttempt(
        key=_key(entry.key),
        phase=wire.HeldPhase.Value(f"HELD_PHASE_{entry.phase.value}"),
        exit=None if entry.exit is None else _exit(entry.exit),
        spooled_offset=entry.spooled_offset,
        boot_id=entry.boot_id,
        stop=None if entry.stop is None else _stop_status(entry.stop),
        started_at=timestamp(entry.started_at_ns),
        pid=entry.pid,
        message=text(entry.message)[:_MESSAGE_CHARACTERS],
        progress=None if entry.progress is None else progress_message(entry.progress),
    )


def _offer_reply(message: domain.OfferReply) -> wire.OfferReply:
    if message.reject is None:
        return wire.OfferReply(key=_key(message.key), accept=True)
    reason = wire.RejectReason.Value(f"REJECT_REASON_{message.reject.value}")
    return wire.OfferReply(key=_key(message.key), accept=False, reject_reason=reason, note=text(message.note))


def _reason(reason: Reason | None) -> run.Reason.ValueType:
    return run.REASON_UNSPECIFIED if reason is None else run.Reason.Value(f"REASON_{reason.value}")


def _exit(report: ExitReport) -> wire.ExitRecord:
    return wire.ExitRecord(
        outcome=wire.ExitOutcome.Value(f"EXIT_OUTCOME_{report.outcome.value}"),
        reason=_reason(report.reason),
        exit_code=report.exit_code,
        signal=report.signal,
        error_message=text(report.error_message),
        steps=[_step(step) for step in report.steps],
        stopped_by=_reason(report.stopped_by),
        tree_empty=report.tree_empty,
        survivors_killed=report.survivors_killed,
        final_offset=report.final_offset,
        digest=report.digest,
        gaps=[run.LogGap(from_offset=start, to_offset=end) for start, end in report.gaps],
        started_at=timestamp(report.started_at_ns),
        ended_at=timestamp(report.ended_at_ns),
        result_data=text(report.result_data),
        log_counted=report.log_counted,
        permanent=report.permanent,
        pid=report.pid,
        cpu_s=report.cpu_s,
        max_rss_bytes=report.max_rss_bytes,
        usage_source=report.usage_source,
        signalled_at=timestamp(report.signalled_at_ns),
        killed_at=timestamp(report.killed_at_ns),
        progress=None if report.progress is None else progress_message(report.progress),
        result_error=text(report.result_error),
        usage=None if report.usage is None else usage_message(report.usage),
        workspace_path=text(report.workspace_path),
        workspace_kept_until=timestamp(report.workspace_kept_until_ns),
    )


def _step(step: StepReport) -> run.StepResult:
    return run.StepResult(
        index=step.index,
        kind=spec.StepKind.Value(f"STEP_KIND_{step.kind.value}"),
        name=text(step.name),
        exit_code=step.exit_code,
        signal=step.signal,
        started_at=timestamp(step.started_at_ns),
        ended_at=timestamp(step.ended_at_ns),
        error_message=text(step.error_message),
    )


def _stop_status(status: domain.StopStatus) -> wire.StopStatus:
    return wire.StopStatus(
        key=_key(status.key),
        phase=run.StopPhase.Value(f"STOP_PHASE_{status.phase.value}"),
        survivors=status.survivors,
        at=timestamp(status.at_ns or None),
    )


def _chunk(chunk: log_domain.LogChunk) -> wire.LogChunk:
    records = [
        log.LogRecord(
            kind=LOG_KINDS[record.kind],
            step=record.step,
            at=timestamp(record.at_ns),
            data=bytes(record.data),
            gap_bytes=record.gap_bytes,
        )
        for record in chunk.records
    ]
    return wire.LogChunk(key=_key(chunk.key), offset=chunk.offset, records=records)


# ---- from the wire ---------------------------------------------------------------------------------------------------


def from_wire(response: wire.SessionResponse) -> domain.ServerMessage:
    """What the server says; a kind that this build does not know becomes Unintelligible."""
    match response.WhichOneof("message"):
        case "welcome":
            return _welcome(response.welcome)
        case "heartbeat_ack":
            return _heartbeat_ack(response.heartbeat_ack)
        case "log_ack":
            ack = response.log_ack
            return domain.LogAck(
                key=key_from(ack.key), committed_offset=ack.committed_offset, window_bytes=ack.window_bytes
            )
        case "log_rewind":
            rewind = response.log_rewind
            return domain.LogRewind(key=key_from(rewind.key), expected_offset=rewind.expected_offset)
        case "drain":
            return domain.Drain()
        case "resume":
            return domain.Resume()
        case "goodbye":
            said = response.goodbye
            after_s, jitter_s = seconds(said.reconnect_after), seconds(said.jitter)
            return domain.Goodbye(reason=said.reason, reconnect_after_s=after_s, jitter_s=jitter_s)
        case _:
            return _about_attempt(response)


def _about_attempt(response: wire.SessionResponse) -> domain.ServerMessage:
    match response.WhichOneof("message"):
        case "offer":
            offer = response.offer
            return domain.Offer(
                key=key_from(offer.key),
                slots=offer.slots or 1,
                summary=offer.summary,
                deadline_s=seconds(offer.deadline),
            )
        case "withdraw":
            return domain.Withdraw(key=key_from(response.withdraw.key))
        case "assignment":
            return assignment_from(response.assignment)
        case "fenced":
            fenced = response.fenced
            return domain.Fenced(key=key_from(fenced.key), current_lease_epoch=fenced.current_lease_epoch)
        case "release":
            return domain.Release(key=key_from(response.release.key))
        case "stop":
            return _stop(response.stop)
        case _:
            return domain.Unintelligible(what=f"fields {[field.name for field, _ in response.ListFields()]}")


def _welcome(message: wire.Welcome) -> domain.Welcome:
    interval_s = seconds(message.heartbeat_interval) or _DEFAULT_INTERVAL_S
    return domain.Welcome(
        session_epoch=message.session_epoch,
        protocol=message.protocol,
        heartbeat_interval_s=interval_s,
        lease_s=seconds(message.lease) or 3 * interval_s,
        log_window_bytes=message.log_window_bytes,
        max_chunk_bytes=message.max_chunk_bytes,
        verdicts=tuple(_verdict(verdict) for verdict in message.verdicts),
        draining=message.draining,
        runner_name=message.runner_name,
    )


def _heartbeat_ack(message: wire.HeartbeatAck) -> domain.HeartbeatAck:
    return domain.HeartbeatAck(
        seq=message.seq,
        next_interval_s=seconds(message.next_interval) or _DEFAULT_INTERVAL_S,
        verdicts=tuple(_verdict(verdict) for verdict in message.verdicts),
    )


def _verdict(message: wire.Verdict) -> domain.Verdict:
    return domain.Verdict(
        key=key_from(message.key),
        kind=enum_from(
            message.kind, wire.VerdictKind, "VERDICT_KIND_", domain.VerdictKind, domain.VerdictKind.UNSPECIFIED
        ),
        resume_offset=message.resume_offset,
        assignment=assignment_from(message.assignment) if message.HasField("assignment") else None,
        stop=_stop(message.stop) if message.HasField("stop") else None,
        exit_stored=message.exit_stored,
        renewed=message.renewed,
    )


def _stop(message: wire.Stop) -> domain.Stop:
    return domain.Stop(
        key=key_from(message.key),
        reason=enum_from(message.reason, run.Reason, "REASON_", Reason, Reason.UNSPECIFIED),
        signal=message.signal or "SIGTERM",
        grace_s=seconds(message.grace),
    )
