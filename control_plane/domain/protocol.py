"""What the server answers to a runner: the verdict on a held entry, and the effect of each report.

Two fences. State: the current epoch and a live attempt; else nothing changes. Evidence (exit record, stop phases, log):
the attempt's own epoch and its holder, in every state. Every function takes the stored case, a statement and the
instant, and gives the case back as it is to be stored.
"""

from dataclasses import dataclass

from control_plane.domain.attempt import ATTEMPT_HELD, ATTEMPT_TERMINAL, AttemptState
from control_plane.domain.case import Case
from control_plane.domain.copies import replace
from control_plane.domain.ends import Instant, exited, lost, started
from control_plane.domain.evidence import late_exit, progressed, sealed, step_ended
from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.limits import DEFAULT_STOP_SIGNAL
from control_plane.domain.logs import LogSeal
from control_plane.domain.offers import accept, reject
from control_plane.domain.reason import Reason
from control_plane.domain.run import RUN_ACTIVE
from control_plane.domain.session import (
    AttemptEventReport,
    AttemptExited,
    AttemptStarted,
    ExitOutcome,
    HeldAttempt,
    HeldPhase,
    OfferReply,
    Stop,
    StopStatus,
    Verdict,
    VerdictKind,
)
from control_plane.domain.spec import StepKind
from control_plane.domain.stops import stop_message, stop_progressed


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """An answer and the case behind it. A START verdict's assignment is filled in by who knows the secrets.

    `verdict` None: nothing to say. `case` None: nothing is known of the run.
    """

    verdict: Verdict | None
    case: Case | None


def judge(held: HeldAttempt, holder: Holder, case: Case | None, at: Instant) -> Judgement:
    """The verdict on one entry of an inventory or of a heartbeat's held set."""
    if case is None or held.key.lease_epoch > case.run.lease_epoch:
        return _say(held.key, VerdictKind.UNKNOWN, case)
    if case.attempt is None:
        # An attempt whose row is gone was never assigned: it has no log and no process.
        over = held.phase is HeldPhase.EXITED
        return _say(held.key, VerdictKind.RELEASE if over else VerdictKind.FENCED, case)
    if case.attempt.state is AttemptState.OFFERED:
        return _judge_offered(held, holder, case, at)
    if case.attempt.holder != holder:
        return _judge_foreign(held, holder, case)
    case = progressed(_with_stop_status(case, held.stop, at), held.progress, at.now)
    if state_fence(case):
        return _judge_live(held, case, at)
    return _judge_over(held, case, at)


def state_fence(case: Case) -> bool:
    """The statement may move the state: current epoch, held attempt, active run. Checked in the write's transaction."""
    attempt = case.attempt
    return (
        attempt is not None
        and attempt.lease_epoch == case.run.lease_epoch
        and attempt.state in ATTEMPT_HELD
        and case.run.state in RUN_ACTIVE
    )


def evidence_fence(case: Case, holder: Holder) -> bool:
    """The statement may be kept as evidence: the attempt's own holder says it."""
    return case.attempt is not None and case.attempt.holder == holder


def _judge_offered(held: HeldAttempt, holder: Holder, case: Case, at: Instant) -> Judgement:
    mine = case.live.runner_id == holder.runner_id and case.live.lease_epoch == case.run.lease_epoch
    if mine and held.phase is HeldPhase.ACCEPTED:
        return _say(held.key, VerdictKind.START, accept(case, holder, at.now), renewed=True)
    if mine and held.exit is not None and held.exit.outcome is ExitOutcome.NOT_STARTED:
        return _say(held.key, VerdictKind.RELEASE, reject(case, held.exit.error_message, at.now))
    return _fence(held.key, case)


def _judge_foreign(held: HeldAttempt, holder: Holder, case: Case) -> Judgement:
    """Somebody else's attempt, or an offer that came to nothing before this runner's acceptance was heard."""
    never_accepted = case.live.holder is None and case.live.runner_id == holder.runner_id
    sealed = case.live.log_sealed_at is not None
    if held.phase is HeldPhase.EXITED and (never_accepted or sealed):
        return _say(held.key, VerdictKind.RELEASE, case)
    return _fence(held.key, case)


def _judge_live(held: HeldAttempt, case: Case, at: Instant) -> Judgement:
    if held.phase is HeldPhase.EXITED:
        if held.exit is None:
            return _say(held.key, VerdictKind.SEND_EXIT, case, renewed=True)
        return _keep_log(held.key, exited(case, held.exit, at))
    readable = held.phase not in (HeldPhase.QUARANTINED, HeldPhase.UNKNOWN_SHIM)
    # A stop may find an attempt whose first step was not executed yet.
    if held.phase is HeldPhase.RUNNING or (held.phase is HeldPhase.STOPPING and held.started_at is not None):
        case = started(case, held.pid, held.started_at, at.now)
    if case.live.state is AttemptState.STOPPING:
        return _say(held.key, VerdictKind.STOP, case, renewed=readable, stop=stop_message(case))
    if held.phase is HeldPhase.ACCEPTED:
        # Nothing was forked: the Assignment again. Told as started before, it is a contradiction, and forking could
        # make it two: it is kept without renewal, so that its loss clock decides.
        if case.live.state is AttemptState.STARTING:
            return _say(held.key, VerdictKind.START, case, renewed=True)
        return _say(held.key, VerdictKind.KEEP, case)
    return _say(held.key, VerdictKind.KEEP, case, renewed=readable)


def _judge_over(held: HeldAttempt, case: Case, at: Instant) -> Judgement:
    """The holder lists an attempt that is over here: its evidence is completed, then it may forget it."""
    if held.phase is HeldPhase.QUARANTINED:
        return _say(held.key, VerdictKind.KEEP, case)
    if held.phase is not HeldPhase.EXITED:
        return _fence(held.key, case)
    if held.exit is not None and case.live.state in ATTEMPT_TERMINAL:
        case = late_exit(case, held.exit, at.now)
    return _keep_log(held.key, case)


def _keep_log(key: AttemptKey, case: Case) -> Judgement:
    if not case.live.exit_stored:
        return _say(key, VerdictKind.SEND_EXIT, case)
    if not case.live.is_handed_in:
        return _say(key, VerdictKind.KEEP, case, exit_stored=True)
    return _say(key, VerdictKind.RELEASE, case, exit_stored=True)


def _with_stop_status(case: Case, status: StopStatus | None, at: Instant) -> Case:
    return case if status is None else stop_progressed(case, status, at.now)


def _fence(key: AttemptKey, case: Case) -> Judgement:
    reason = case.run.cancel_reason or Reason.SUPERSEDED
    stop = Stop(key=key, reason=reason, signal=case.spec.stop_signal or DEFAULT_STOP_SIGNAL, grace_s=case.spec.grace)
    return _say(key, VerdictKind.FENCED, case, stop=stop)


def _say(
    key: AttemptKey,
    kind: VerdictKind,
    case: Case | None,
    *,
    renewed: bool = False,
    exit_stored: bool = False,
    stop: Stop | None = None,
) -> Judgement:
    verdict = Verdict(key=key, kind=kind, renewed=renewed, exit_stored=exit_stored, stop=stop)
    return Judgement(verdict=verdict, case=case)


# -- reports ----------------------------------------------------------------------------------------------------------


def judge_reply(reply: OfferReply, holder: Holder, case: Case | None, at: Instant) -> Judgement:
    """An answer to an offer. An acceptance counts like a held entry that says so; a late refusal is nothing."""
    if reply.accept:
        held = HeldAttempt(key=reply.key, phase=HeldPhase.ACCEPTED)
        judgement = judge(held, holder, case, at)
        repeated = judgement.verdict is not None and judgement.verdict.kind is VerdictKind.KEEP
        return replace(judgement, verdict=None) if repeated else judgement
    if case is None or case.attempt is None or case.attempt.state is not AttemptState.OFFERED:
        return Judgement(verdict=None, case=case)
    if case.attempt.runner_id != holder.runner_id or case.attempt.lease_epoch != case.run.lease_epoch:
        return Judgement(verdict=None, case=case)
    words = ": ".join(part for part in (str(reply.reject_reason or ""), reply.note) if part)
    return Judgement(verdict=None, case=reject(case, words, at.now))


def judge_started(report: AttemptStarted, holder: Holder, case: Case | None, at: Instant) -> Judgement:
    """STARTED moves a live attempt; of a finished or foreign one it says that a process runs which must not."""
    held = HeldAttempt(key=report.key, phase=HeldPhase.RUNNING, pid=report.pid, started_at=report.started_at)
    return _quiet_keep(judge(held, holder, case, at))


def judge_exited(
    report: AttemptExited, holder: Holder, case: Case | None, at: Instant, *, empty: LogSeal | None = None
) -> Judgement:
    """The exit record: it moves a live attempt, and is evidence for one that is over.

    `empty`: the seal of its log, if nothing of that was ever stored: with a record that counts no byte it is whole.
    """
    found = judge(HeldAttempt(key=report.key, phase=HeldPhase.EXITED, exit=report.exit), holder, case, at)
    if empty is None or found.case is None or not _is_whole(found.case, holder, empty):
        return found
    return _say(report.key, VerdictKind.RELEASE, sealed(found.case, empty, at.now), exit_stored=True)


def _is_whole(case: Case, holder: Holder, seal: LogSeal) -> bool:
    """Whether the exit record that is stored says of the log what its seal says, and nothing else is awaited."""
    attempt = case.attempt
    return (
        attempt is not None
        and evidence_fence(case, holder)
        and attempt.state in ATTEMPT_TERMINAL
        and attempt.exit_stored
        and attempt.log_counted
        and attempt.final_offset == seal.bytes
        and attempt.expected_digest in ("", seal.digest)
        and attempt.log_sealed_at is None
        and attempt.artifacts_due_at is None
    )


def judge_stop_status(report: StopStatus, holder: Holder, case: Case | None, at: Instant) -> Judgement:
    """How far a stop has come: evidence, in every state."""
    if case is None or not evidence_fence(case, holder):
        return Judgement(verdict=None, case=case)
    return Judgement(verdict=None, case=stop_progressed(case, report, at.now))


def judge_step(report: AttemptEventReport, holder: Holder, case: Case | None, at: Instant) -> Judgement:
    """How far it has come, or the end of one step; that of an executed MAIN step implies that the attempt started."""
    if case is None or not evidence_fence(case, holder):
        return Judgement(verdict=None, case=case)
    case, step = progressed(case, report.progress, at.now), report.step_ended
    if step is None:
        return Judgement(verdict=None, case=case)
    executed = step.exit_code is not None or step.signal is not None
    if executed and step.kind is StepKind.MAIN and state_fence(case):
        case = started(case, 0, step.started_at, at.now)
    return Judgement(verdict=None, case=step_ended(case, step))


def judge_silence(case: Case, at: Instant) -> Case:
    """The loss clock of a held attempt ran out: presumed dead by its own deadline. Anything else is a late clock."""
    return lost(case, Reason.RUNNER_LOST, at, proven=True) if state_fence(case) else case


def _quiet_keep(judgement: Judgement) -> Judgement:
    if judgement.verdict is not None and judgement.verdict.kind is VerdictKind.KEEP:
        return replace(judgement, verdict=None)
    return judgement
