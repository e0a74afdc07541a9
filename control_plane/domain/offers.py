"""Placing a run on a runner: offered, then accepted, refused or withdrawn."""

from datetime import datetime

from control_plane.domain.attempt import Attempt, AttemptEvent, AttemptState
from control_plane.domain.case import Case, concluded
from control_plane.domain.copies import replace
from control_plane.domain.history import RunEventType
from control_plane.domain.ids import Holder, RunnerId
from control_plane.domain.reason import Reason
from control_plane.domain.run import RunEvent
from control_plane.domain.session import Offer, Withdraw
from control_plane.domain.spec import RunSpec
from control_plane.domain.stops import end_if_task_deleted

_SUMMARY_CHARACTERS = 120


def offer(case: Case, runner_id: RunnerId, lease_epoch: int, offer_s: float, now: datetime) -> Case:
    """QUEUED: a new attempt under a new fence is born OFFERED; the runner has `offer_s` seconds to answer."""
    slots = max(1, case.spec.slots)
    attempt = Attempt(
        run_id=case.run.id,
        lease_epoch=lease_epoch,
        runner_id=runner_id,
        state=AttemptState.OFFERED,
        number=case.run.retry_count + 1,
        slots=slots,
        offered_at=now,
    )
    case = case.advance_run(RunEvent.OFFERED)
    others = case.others if case.attempt is None else (*case.others, case.attempt)
    case = replace(case, run=replace(case.run, lease_epoch=lease_epoch, progress=None), attempt=attempt, others=others)
    case = case.record(RunEventType.OFFERED, now)
    case = case.tell(Offer(key=attempt.key, slots=slots, summary=_summary(case), deadline_s=offer_s))
    return concluded(case, now)


def accept(case: Case, holder: Holder, now: datetime) -> Case:
    """OFFERED: the runner journalled it. Only now is there a holder, and only now may an Assignment leave."""
    case = case.advance_attempt(AttemptEvent.ACCEPTED)
    attempt = replace(case.live, state_directory_id=holder.state_directory_id, assigned_at=now)
    case = replace(case, attempt=attempt, run=replace(case.run, queue_expires_at=None))
    return concluded(case.record(RunEventType.ACCEPTED, now), now)


def reject(case: Case, note: str, now: datetime) -> Case:
    """OFFERED: the runner said no."""
    return _return(case, AttemptEvent.REJECTED, Reason.RUNNER_REFUSED, note, now)


def withdraw(case: Case, reason: Reason, note: str, now: datetime) -> Case:
    """OFFERED: the server takes the offer back (no answer in time, drained, revoked, marked lost, deadline)."""
    case = case.tell(Withdraw(key=case.live.key))
    return _return(case, AttemptEvent.WITHDRAWN, reason, note, now)


def _return(case: Case, event: AttemptEvent, reason: Reason, note: str, now: datetime) -> Case:
    case = case.advance_attempt(event)
    case = replace(case, attempt=replace(case.live, reason=reason, error_message=note, ended_at=now))
    case = case.advance_run(RunEvent.RETURNED)
    run = replace(case.run, queue_rank=0, rejected_count=case.run.rejected_count + 1)
    case = replace(case, run=run).record(RunEventType.RETURNED, now, reason=reason, note=note)
    return concluded(end_if_task_deleted(case, now), now)


def _summary(case: Case) -> str:
    """What the runner shows before it knows the spec: a name, never an argument (it could hold a secret)."""
    text = case.run.task_name or case.run.options.title or _program(case.spec)
    return text[:_SUMMARY_CHARACTERS]


def _program(spec: RunSpec) -> str:
    command = spec.steps[0].command
    return command.argv[0] if command.argv else "script"
