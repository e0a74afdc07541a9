"""How an attempt ended, judged from what its steps did: pure."""

from __future__ import annotations

from runner_agent.shim.messages import Outcome, Reason, StepKind, StepRecord
from runner_agent.shim.orders import Verdict
from runner_agent.shim.records import replace
from runner_agent.shim.states import Instant, State, StepPlan

# A stop by the runner itself, before anything of the task ran, proves NOT_STARTED: the run may be given out again.
_BY_RUNNER = (Reason.RUNNER_LOST, Reason.RUNNER_SHUTDOWN)

_STOP_WORDS = {
    Reason.USER_CANCEL: "it was cancelled",
    Reason.SUPERSEDED: "the control plane has given it up, or a newer run takes its place",
    Reason.TASK_DELETED: "its task was deleted",
    Reason.FORCED: "it was cancelled by force",
    Reason.RUN_TIMEOUT: "it ran longer than its timeout",
    Reason.IDLE_TIMEOUT: "it wrote nothing for longer than its idle timeout",
    Reason.START_TIMEOUT: "it did not start within its start timeout",
    Reason.DEADLINE_PASSED: "its deadline passed",
    Reason.RUNNER_LOST: "its runner was cut off from the control plane for too long",
    Reason.RUNNER_SHUTDOWN: "its runner shuts down",
}


def has_failed(record: StepRecord, plan: StepPlan) -> bool:
    """Whether the launcher's rule (exit code in the step's set) calls this a failure."""
    return record.exit_code is None or record.exit_code not in plan.success_exit_codes


def judge(state: State, now: Instant) -> Verdict:
    """The verdict over the finished `state`."""
    telling = _telling_record(state)
    outcome, reason = _outcome(state, telling)
    stopped_by = state.stop.reason if state.stop is not None else None
    if outcome is Outcome.NOT_STARTED and stopped_by in _BY_RUNNER:
        stopped_by = None
    return Verdict(
        outcome=outcome,
        reason=reason,
        message=_message(state, outcome, reason, telling),
        exit_code=None if telling is None else telling.exit_code,
        signal=None if telling is None else telling.signal,
        steps=state.records,
        stopped_by=stopped_by,
        stop_marks=state.marks,
        survivors_killed=state.killed,
        tree_empty=state.tree_empty,
        started_at_ns=state.main_started_wall_ns,
        ended_at_ns=now.wall_ns,
    )


def _telling_record(state: State) -> StepRecord | None:
    """The record whose exit code is the attempt's: the first failure, else the last MAIN step."""
    if state.failed is not None:
        return next(record for record in state.records if record.index == state.failed)
    mains = [record for record in state.records if record.kind is StepKind.MAIN]
    return mains[-1] if mains else None


def _outcome(state: State, telling: StepRecord | None) -> tuple[Outcome, Reason]:
    stop = state.stop
    failed = telling if state.failed is not None else None
    if state.main_started_at_ns is None:
        if stop is not None or failed is None:
            by_order = stop is not None and stop.reason not in _BY_RUNNER
            return Outcome.NOT_STARTED, stop.reason if stop is not None and by_order else Reason.NOT_STARTED
        if failed.spawn_errno is None and failed.kind is StepKind.CHECKOUT:
            return Outcome.START_FAILED, Reason.CHECKOUT_FAILED
        return Outcome.START_FAILED, _reason_of(failed)
    if failed is not None:
        return Outcome.ENDED_BADLY, stop.reason if stop is not None else _reason_of(failed)
    if state.trouble or telling is None or len(state.records) < len(state.plan.steps):
        return Outcome.ENDED_BADLY, stop.reason if stop is not None else Reason.SPAWN_FAILED
    return Outcome.ENDED_WELL, _reason_of(telling)


def _reason_of(record: StepRecord) -> Reason:
    if record.spawn_errno is not None:
        return Reason.SPAWN_FAILED
    if record.oom_killed:
        return Reason.OOM_KILLED
    if record.signal is not None:
        return Reason.SIGNALLED
    return Reason.EXIT_ZERO if record.exit_code == 0 else Reason.EXIT_NONZERO


def _message(state: State, outcome: Outcome, reason: Reason, telling: StepRecord | None) -> str:
    if state.trouble:
        return state.trouble
    if outcome is Outcome.NOT_STARTED and state.stop is not None and state.stop.reason is Reason.RUNNER_LOST:
        return "the loss deadline had passed before the start"
    if telling is None:
        return ""
    if telling.spawn_message or reason is not Reason.CHECKOUT_FAILED:
        # An exit code and a signal need no words: whoever tells the reason has them as numbers.
        return telling.spawn_message
    return f"ended by signal {telling.signal}" if telling.signal is not None else f"exit code {telling.exit_code}"


def failed_validation(verdict: Verdict, why: str) -> Verdict:
    """An end that was good is not, because its result cannot be taken; any other end stays what it was."""
    if verdict.outcome is not Outcome.ENDED_WELL:
        return verdict
    return replace(verdict, outcome=Outcome.ENDED_BADLY, reason=Reason.VALIDATION_FAILED, message=why)


def stop_words(reason: Reason) -> str:
    """Why a running attempt is stopped, for the reader of its log."""
    return _STOP_WORDS.get(reason, reason.value)
