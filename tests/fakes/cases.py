"""Cases for tests of the pure rules: a run and its newest attempt in any pair of states that can occur."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from control_plane.domain.attempt import Attempt, AttemptState, StopPhase, StopRecord
from control_plane.domain.case import Case
from control_plane.domain.ends import Instant
from control_plane.domain.ids import AttemptKey, Holder, PrincipalId, ProjectId, RunId, RunnerId
from control_plane.domain.reason import STOPS_BY_CANCEL, Reason
from control_plane.domain.run import Run, RunState, TriggerType
from control_plane.domain.session import ExitOutcome, ExitRecord, HeldAttempt, HeldPhase
from control_plane.domain.spec import Command, LossPolicy, OnLost, RetryPolicy, RunSpec, Step
from control_plane.domain.spec_rules import with_defaults

START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
NOW = START + timedelta(minutes=5)
AT = Instant(now=NOW, jitter=0.0)
RUN_ID = RunId("01900000-0000-7000-8000-0000000000aa")
RUNNER = RunnerId("runner-1")
OTHER_RUNNER = RunnerId("runner-2")
HOLDER = Holder(runner_id=RUNNER, state_directory_id="directory-1")
CLONE = Holder(runner_id=RUNNER, state_directory_id="directory-2")
STRANGER = Holder(runner_id=OTHER_RUNNER, state_directory_id="directory-3")
KEY = AttemptKey(run_id=RUN_ID, lease_epoch=1)

_RUN_STATE = {
    AttemptState.OFFERED: RunState.ASSIGNED,
    AttemptState.STARTING: RunState.ASSIGNED,
    AttemptState.RUNNING: RunState.RUNNING,
    AttemptState.STOPPING: RunState.RUNNING,
    AttemptState.SUCCEEDED: RunState.SUCCEEDED,
    AttemptState.FAILED: RunState.FAILED,
    AttemptState.TIMED_OUT: RunState.TIMED_OUT,
    AttemptState.CANCELLED: RunState.CANCELLED,
    AttemptState.LOST: RunState.LOST,
    AttemptState.REJECTED: RunState.QUEUED,
}


def spec(
    *,
    on_lost: OnLost = OnLost.FAIL,
    lost_after_s: float | None = None,
    never: bool = False,
    max_attempts: int = 1,
    retry_on: tuple[str, ...] = ("failed",),
) -> RunSpec:
    """A spec of one MAIN step with its defaults written out."""
    return with_defaults(
        RunSpec(
            steps=(Step(command=Command(argv=("true",))),),
            loss=LossPolicy(on_lost=on_lost, lost_after_s=lost_after_s, never=never),
            retry=RetryPolicy(max_attempts=max_attempts, retry_on=retry_on),
        ),
    )


def run(state: RunState = RunState.QUEUED, **changes: object) -> Run:
    made = Run(
        id=RUN_ID,
        project_id=ProjectId("project-1"),
        state=state,
        spec_sha256="0" * 64,
        trigger_type=TriggerType.MANUAL,
        created_by=PrincipalId("principal-1"),
        created_at=START,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def attempt(state: AttemptState = AttemptState.OFFERED, **changes: object) -> Attempt:
    accepted = state not in (AttemptState.OFFERED, AttemptState.REJECTED)
    made = Attempt(
        run_id=RUN_ID,
        lease_epoch=1,
        runner_id=RUNNER,
        state=state,
        number=1,
        offered_at=START,
        state_directory_id=HOLDER.state_directory_id if accepted else "",
        assigned_at=START if accepted else None,
        started_at=START if accepted and state is not AttemptState.STARTING else None,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def stop(reason: Reason = Reason.USER_CANCEL, phase: StopPhase = StopPhase.REQUESTED) -> StopRecord:
    return StopRecord(reason=reason, phase=phase, requested_at=START, signal="SIGTERM", grace_s=10.0)


def case(state: AttemptState | None = None, *, of: RunSpec | None = None, stopped: Reason = Reason.USER_CANCEL) -> Case:
    """A stored case with its newest attempt in `state` (None: queued, never offered).

    A STOPPING attempt was stopped for `stopped`; by a cancel its run is CANCELLING.
    """
    of = of or spec()
    if state is None:
        return Case(run=run(), spec=of)
    the_run = run(_RUN_STATE[state], lease_epoch=1)
    the_attempt = attempt(state)
    if state is AttemptState.STOPPING:
        the_attempt = replace(the_attempt, stop=stop(stopped))
        if stopped in STOPS_BY_CANCEL:
            the_run = cancelling(the_run, stopped)
    return Case(run=the_run, spec=of, attempt=the_attempt)


def cancelling(of: Run, reason: Reason = Reason.USER_CANCEL) -> Run:
    return replace(of, state=RunState.CANCELLING, cancel_requested_at=START, cancel_reason=reason, cancelled_by="ann")


def exit_record(outcome: ExitOutcome = ExitOutcome.ENDED_WELL, **changes: object) -> ExitRecord:
    """A plausible record: the tree is proven empty, ten log bytes were written."""
    codes = {ExitOutcome.ENDED_WELL: 0, ExitOutcome.ENDED_BADLY: 1}
    made = ExitRecord(
        outcome=outcome,
        exit_code=codes.get(outcome),
        tree_empty=outcome is not ExitOutcome.SHIM_DIED,
        final_offset=10,
        digest="ab",
        ended_at=NOW,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def held(phase: HeldPhase, exit_: ExitRecord | None = None, key: AttemptKey = KEY) -> HeldAttempt:
    return HeldAttempt(key=key, phase=phase, exit=exit_)
