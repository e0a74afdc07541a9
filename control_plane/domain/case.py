"""A run, the attempt in question and what was decided about them so far: what every decision takes and gives back."""

from dataclasses import dataclass
from datetime import datetime

from control_plane.domain.attempt import ATTEMPT_TABLE, Attempt, AttemptEvent
from control_plane.domain.copies import replace
from control_plane.domain.history import RunEventRecord, RunEventType
from control_plane.domain.machine import advance
from control_plane.domain.reason import Reason
from control_plane.domain.run import RUN_TABLE, RUN_TERMINAL, Run, RunEvent, RunState
from control_plane.domain.session import ToRunner
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import NotificationSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`attempt` is the one that the message or clock speaks of, None while there is none.

    `others` are the run's other attempts that were assigned: a run's kill_confirmed and settled_at depend on all of
    them. `events` and `sends` collect what the decision wants stored and told to the attempt's runner.
    """

    run: Run
    spec: RunSpec
    attempt: Attempt | None = None
    others: tuple[Attempt, ...] = ()
    task_deleted: bool = False
    # Of the run's task, as they are now.
    notifications: tuple[NotificationSettings, ...] = ()
    events: tuple[RunEventRecord, ...] = ()
    sends: tuple[ToRunner, ...] = ()
    # Other runs that the same transaction has moved: they are told with this one.
    also: tuple["Case", ...] = ()

    @property
    def live(self) -> Attempt:
        """The attempt, where there must be one."""
        if self.attempt is None:
            raise ValueError(f"run {self.run.id} has no attempt here")
        return self.attempt

    def advance_run(self, event: RunEvent) -> "Case":
        return replace(self, run=replace(self.run, state=advance(RUN_TABLE, self.run.state, event)))

    def advance_attempt(self, event: AttemptEvent) -> "Case":
        attempt = self.live
        return replace(self, attempt=replace(attempt, state=advance(ATTEMPT_TABLE, attempt.state, event)))

    def tell(self, *messages: ToRunner) -> "Case":
        return replace(self, sends=self.sends + messages)

    def record(
        self,
        kind: RunEventType,
        now: datetime,
        *,
        reason: Reason | None = None,
        note: str = "",
        actor: str = "",
    ) -> "Case":
        """One more row of the run's history, under the attempt's epoch (the run's, without an attempt)."""
        epoch = self.run.lease_epoch if self.attempt is None else self.attempt.lease_epoch
        event = RunEventRecord(
            run_id=self.run.id,
            type=kind,
            at=now,
            lease_epoch=epoch,
            reason=reason,
            note=note,
            actor=actor,
        )
        return replace(self, events=(*self.events, event))


def concluded(case: Case, now: datetime) -> Case:
    """What follows from the states alone; every decision ends with it.

    A finished run's kill_confirmed is the AND over all attempts that got an Assignment; it is settled once all their
    logs are sealed, their artifacts stored and its report made. A live run's due_at says when a wall clock concerns it
    next.
    """
    run = case.run
    if run.state not in RUN_TERMINAL:
        due_at = _due_at(case)
        return case if due_at == run.due_at else replace(case, run=replace(run, due_at=due_at))
    run = replace(run, due_at=None)
    assigned = [each for each in (*case.others, *_newest(case)) if each.assigned_at is not None]
    confirmed = run.state is not RunState.SKIPPED and all(each.kill_confirmed for each in assigned)
    case = replace(case, run=replace(run, kill_confirmed=confirmed))
    if run.settled_at is None and all(each.is_handed_in for each in assigned):
        if case.run.report_formats:
            return replace(case, run=replace(case.run, report_due_at=case.run.report_due_at or now))
        case = replace(case, run=replace(case.run, settled_at=now))
        return case.record(RunEventType.SETTLED, now)
    if run.report_due_at is not None:
        # A late exit has announced artifacts: the report is made once they are in.
        return replace(case, run=replace(case.run, report_due_at=None))
    return case


def _newest(case: Case) -> tuple[Attempt, ...]:
    return () if case.attempt is None else (case.attempt,)


def _due_at(case: Case) -> datetime | None:
    """The queue timeout counts only in QUEUED; the deadline until a stop is ordered."""
    run, attempt = case.run, case.attempt
    if run.state is RunState.CANCELLING:
        return None
    if run.state is RunState.QUEUED:
        return min((at for at in (run.queue_expires_at, run.deadline) if at is not None), default=None)
    if attempt is None or attempt.lease_epoch != run.lease_epoch:
        return run.due_at
    return run.deadline if attempt.stop is None else None
