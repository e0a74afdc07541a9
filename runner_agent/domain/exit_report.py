"""How an attempt ended, in the words of the wire: the report that is told until the server has stored it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runner_agent.domain.assignment import StepKind
from runner_agent.domain.reason import Reason


class Outcome(StrEnum):
    """The contract's `ExitOutcome` without its prefix."""

    ENDED_WELL = "ENDED_WELL"
    ENDED_BADLY = "ENDED_BADLY"
    NOT_STARTED = "NOT_STARTED"
    START_FAILED = "START_FAILED"
    SHIM_DIED = "SHIM_DIED"
    HOST_REBOOTED = "HOST_REBOOTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """The end of one step. Times are wall-clock nanoseconds."""

    index: int
    kind: StepKind = StepKind.MAIN
    name: str = ""
    exit_code: int | None = None
    signal: int | None = None
    started_at_ns: int | None = None
    ended_at_ns: int | None = None
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the run says it has come: `percent` 0 to 100 or None. `at_ns` is wall clock."""

    percent: float | None = None
    stage: str = ""
    note: str = ""
    at_ns: int = 0

    @property
    def weight_bytes(self) -> int:
        """About how much it takes on the wire."""
        return 32 + len(self.stage) + len(self.note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an attempt has used, each figure with its source; None: not known."""

    cpu_s: float | None = None
    cpu_source: str = ""
    max_rss_bytes: int | None = None
    max_rss_source: str = ""
    read_bytes: int | None = None
    written_bytes: int | None = None
    io_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitReport:
    """The exit record. `tree_empty` is the kernel's word; `log_counted` False means that an unknown part is lost.

    `gaps` are ranges [from, to) of log offsets whose bytes are not kept. Times are wall-clock nanoseconds.
    """

    outcome: Outcome
    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    error_message: str = ""
    steps: tuple[StepReport, ...] = ()
    stopped_by: Reason | None = None
    tree_empty: bool = False
    survivors_killed: int = 0
    final_offset: int = 0
    digest: str = ""
    gaps: tuple[tuple[int, int], ...] = ()
    started_at_ns: int | None = None
    ended_at_ns: int | None = None
    result_data: str = ""
    log_counted: bool = True
    permanent: bool = False
    pid: int = 0
    cpu_s: float = 0.0
    max_rss_bytes: int = 0
    usage_source: str = ""
    signalled_at_ns: int | None = None
    killed_at_ns: int | None = None
    progress: Progress | None = None
    result_error: str = ""
    usage: Usage | None = None
    # Where its workspace stays behind it, and until when.
    workspace_path: str = ""
    workspace_kept_until_ns: int | None = None

    @property
    def leaves_files(self) -> bool:
        """Whether something was executed that may have left files."""
        return self.outcome not in (Outcome.NOT_STARTED, Outcome.START_FAILED)

    @property
    def weight_bytes(self) -> int:
        """About how much it takes on the wire."""
        return 256 + len(self.result_data) + len(self.error_message) + 128 * len(self.steps) + 16 * len(self.gaps)


def not_started(reason: Reason, message: str, *, stopped_by: Reason | None = None, at_ns: int = 0) -> ExitReport:
    """The report of an attempt of which nothing was ever executed: its tree is empty because there never was one."""
    return ExitReport(
        outcome=Outcome.NOT_STARTED,
        reason=reason,
        error_message=message,
        stopped_by=stopped_by,
        tree_empty=True,
        ended_at_ns=at_ns or None,
    )
