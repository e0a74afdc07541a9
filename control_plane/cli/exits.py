"""Exit codes: what each number says, and which one a run's state gives."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from control_plane.cli.contract import run_pb2


class ExitCode(IntEnum):
    """The numbers that `banksman` ends with; documented in docs/cli.md and `banksman help exit-codes`."""

    OK = 0
    RUN_FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    FORBIDDEN = 4
    UNAVAILABLE = 5
    CONFLICT = 6
    CANCELLED = 7
    TIMED_OUT = 8
    LOST = 9
    LOG_INCOMPLETE = 10
    WAIT_TIMED_OUT = 124
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "ok",
    ExitCode.RUN_FAILED: "the run failed, or diff found a difference",
    ExitCode.USAGE: "wrong usage, or an argument that the control plane refused",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.FORBIDDEN: "unauthenticated or forbidden",
    ExitCode.UNAVAILABLE: "the control plane cannot be reached, or could not answer",
    ExitCode.CONFLICT: "conflict, unmet precondition, or the run was skipped",
    ExitCode.CANCELLED: "the run was cancelled",
    ExitCode.TIMED_OUT: "the run timed out",
    ExitCode.LOST: "the run was lost, or expired in the queue",
    ExitCode.LOG_INCOMPLETE: "the log is incomplete",
    ExitCode.WAIT_TIMED_OUT: "the CLI's own --wait-timeout passed; the run goes on",
    ExitCode.INTERRUPTED: "interrupted; a run that was followed goes on",
}

BY_STATE = {
    "SUCCEEDED": ExitCode.OK,
    "FAILED": ExitCode.RUN_FAILED,
    "TIMED_OUT": ExitCode.TIMED_OUT,
    "LOST": ExitCode.LOST,
    "EXPIRED": ExitCode.LOST,
    "CANCELLED": ExitCode.CANCELLED,
    "SKIPPED": ExitCode.CONFLICT,
}

BY_STATUS = {
    "INVALID_ARGUMENT": ExitCode.USAGE,
    "OUT_OF_RANGE": ExitCode.USAGE,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "UNAUTHENTICATED": ExitCode.FORBIDDEN,
    "PERMISSION_DENIED": ExitCode.FORBIDDEN,
    "ALREADY_EXISTS": ExitCode.CONFLICT,
    "ABORTED": ExitCode.CONFLICT,
    "FAILED_PRECONDITION": ExitCode.CONFLICT,
}


def of_status(code: str) -> ExitCode:
    """The exit code for a gRPC status name; what is not the caller's doing is UNAVAILABLE."""
    return BY_STATUS.get(code, ExitCode.UNAVAILABLE)


def of_run(run: run_pb2.Run, *, propagate: bool = False) -> int:
    """The exit code of a terminal run; with `propagate` the child's own, or 128 + its signal.

    The child's code speaks only for a run that succeeded or failed by it: a cancelled run whose child returned 0 is
    still 7, and a failed one is never 0.
    """
    from control_plane.cli.words import state_word

    state = state_word(run)
    code = BY_STATE.get(state, ExitCode.UNAVAILABLE)
    if propagate and state in ("SUCCEEDED", "FAILED"):
        if run.HasField("signal"):
            return 128 + run.signal
        if run.HasField("exit_code") and (run.exit_code != 0 or state == "SUCCEEDED"):
            return run.exit_code
    return int(code)
