"""Why a run or an attempt is in its state: one fixed list, and each as a sentence."""

import signal as signals
from enum import StrEnum


class Reason(StrEnum):
    EXIT_ZERO = "EXIT_ZERO"
    EXIT_NONZERO = "EXIT_NONZERO"
    SIGNALLED = "SIGNALLED"
    OOM_KILLED = "OOM_KILLED"
    SPAWN_FAILED = "SPAWN_FAILED"
    CHECKOUT_FAILED = "CHECKOUT_FAILED"
    SECRET_UNAVAILABLE = "SECRET_UNAVAILABLE"
    NOT_STARTED = "NOT_STARTED"
    RUNNER_REFUSED = "RUNNER_REFUSED"
    OFFER_EXPIRED = "OFFER_EXPIRED"
    USER_CANCEL = "USER_CANCEL"
    SUPERSEDED = "SUPERSEDED"
    FORCED = "FORCED"
    TASK_DELETED = "TASK_DELETED"
    TASK_INACTIVE = "TASK_INACTIVE"
    OVERLAP = "OVERLAP"
    LIMIT_REACHED = "LIMIT_REACHED"
    RUN_TIMEOUT = "RUN_TIMEOUT"
    IDLE_TIMEOUT = "IDLE_TIMEOUT"
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    START_TIMEOUT = "START_TIMEOUT"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    RUNNER_LOST = "RUNNER_LOST"
    MARKED_LOST = "MARKED_LOST"
    SHIM_DIED = "SHIM_DIED"
    HOST_REBOOTED = "HOST_REBOOTED"
    RUNNER_SHUTDOWN = "RUNNER_SHUTDOWN"
    PROTOCOL_ERROR = "PROTOCOL_ERROR"
    NO_CHANGES = "NO_CHANGES"
    BLOCKED_BY_PERMISSIONS = "BLOCKED_BY_PERMISSIONS"
    VALIDATION_FAILED = "VALIDATION_FAILED"
    PUBLISH_FAILED = "PUBLISH_FAILED"
    API_AUTH = "API_AUTH"
    API_RATE_LIMITED = "API_RATE_LIMITED"
    API_UNAVAILABLE = "API_UNAVAILABLE"
    MAX_TURNS = "MAX_TURNS"
    MAX_BUDGET = "MAX_BUDGET"


STOPS_BY_CANCEL = frozenset({Reason.USER_CANCEL, Reason.SUPERSEDED, Reason.TASK_DELETED, Reason.FORCED})
STOPS_BY_TIMEOUT = frozenset(
    {Reason.RUN_TIMEOUT, Reason.IDLE_TIMEOUT, Reason.START_TIMEOUT, Reason.DEADLINE_PASSED},
)
STOPS_BY_RUNNER = frozenset({Reason.RUNNER_SHUTDOWN, Reason.RUNNER_LOST})

_SENTENCES: dict[Reason, str] = {
    Reason.EXIT_ZERO: "The program ended with exit code 0.",
    Reason.EXIT_NONZERO: "The program ended with a non-zero exit code.",
    Reason.SIGNALLED: "The program was ended by a signal.",
    Reason.OOM_KILLED: "The kernel killed the program: out of memory.",
    Reason.SPAWN_FAILED: "The program could not be started.",
    Reason.CHECKOUT_FAILED: "The source could not be checked out.",
    Reason.SECRET_UNAVAILABLE: "A secret that the run needs no longer exists.",
    Reason.NOT_STARTED: "The runner could not start it; nothing was executed.",
    Reason.RUNNER_REFUSED: "The runner refused the offer.",
    Reason.OFFER_EXPIRED: "The runner did not answer the offer.",
    Reason.USER_CANCEL: "It was cancelled.",
    Reason.SUPERSEDED: "A newer run took its place.",
    Reason.FORCED: "It was cancelled by force, without waiting for its runner.",
    Reason.TASK_DELETED: "Its task was deleted.",
    Reason.TASK_INACTIVE: "Its task is not active.",
    Reason.OVERLAP: "An earlier run of the same schedule was still active.",
    Reason.LIMIT_REACHED: "A limit on concurrent runs was reached.",
    Reason.RUN_TIMEOUT: "It ran longer than its timeout.",
    Reason.IDLE_TIMEOUT: "It wrote nothing for longer than its idle timeout.",
    Reason.QUEUE_TIMEOUT: "No runner took it within its queue timeout.",
    Reason.START_TIMEOUT: "It did not start within its start timeout.",
    Reason.DEADLINE_PASSED: "Its deadline passed.",
    Reason.RUNNER_LOST: "Its runner was silent for longer than its lost_after.",
    Reason.MARKED_LOST: "An operator marked its runner as lost.",
    Reason.SHIM_DIED: "The process that guarded it on the host died.",
    Reason.HOST_REBOOTED: "Its host rebooted.",
    Reason.RUNNER_SHUTDOWN: "Its runner shut down and stopped it.",
    Reason.PROTOCOL_ERROR: "Its runner and the control plane disagree about it.",
    Reason.NO_CHANGES: "It ended well and changed nothing.",
    Reason.BLOCKED_BY_PERMISSIONS: "It was blocked by missing permissions.",
    Reason.VALIDATION_FAILED: "Its result did not pass validation.",
    Reason.PUBLISH_FAILED: "Its result could not be published.",
    Reason.API_AUTH: "The model's API refused the credentials.",
    Reason.API_RATE_LIMITED: "The model's API refused more requests.",
    Reason.API_UNAVAILABLE: "The model's API was unavailable.",
    Reason.MAX_TURNS: "It used up its turns.",
    Reason.MAX_BUDGET: "It used up its budget.",
}


def _signal_name(number: int) -> str:
    """What a person calls it, in brackets; empty for a number without a name, such as a real-time signal."""
    try:
        return f" ({signals.Signals(number).name})"
    except ValueError:
        return ""


def sentence(reason: Reason, *, exit_code: int | None = None, signal: int | None = None, detail: str = "") -> str:
    """What happened, for a person; `detail` (the runner's own words) is added when there is any."""
    if reason is Reason.EXIT_NONZERO and exit_code is not None:
        text = f"The program ended with exit code {exit_code}."
    elif reason is Reason.SIGNALLED and signal is not None:
        text = f"The program was ended by signal {signal}{_signal_name(signal)}."
    else:
        text = _SENTENCES[reason]
    detail = detail.strip()
    if not detail:
        return text
    return f"{text[:-1]}: {detail}" if detail.endswith(".") else f"{text[:-1]}: {detail}."
