"""What a decision asks the agent to do. Each is idempotent or happens at most once per attempt, as it says."""

from __future__ import annotations

from dataclasses import dataclass, field

from runner_agent.domain.assignment import Assignment
from runner_agent.domain.exit_report import ExitReport
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.messages import RunnerMessage
from runner_agent.domain.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Put a message into the control lane of the session."""

    message: RunnerMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalAccept:
    """Write the acceptance to disk; answered by JournalDone or JournalFailed."""

    key: AttemptKey
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Make workspace and files; answered by Prepared or PrepareFailed."""

    key: AttemptKey
    assignment: Assignment = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Hand the attempt to the fork server: once ever per attempt. Answered by Started and Exited."""

    key: AttemptKey
    assignment: Assignment = field(repr=False)
    loss_deadline_boot_ns: int | None
    start_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndUnstarted:
    """Make sure that it can never start and keep the record; answered by Exited."""

    key: AttemptKey
    report: ExitReport


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTree:
    """Tell the shim to stop the tree. A repeat with a shorter grace hurries it."""

    key: AttemptKey
    reason: Reason
    signal: str
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateShim:
    """SIGTERM to a shim that speaks an unknown version."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewLoss:
    """Move the loss deadline that the shim holds."""

    key: AttemptKey
    deadline_boot_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Remove run directory and workspace; answered by Forgotten."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLog:
    """The server wants the log from `offset` on; bytes below `spooled_offset` are there."""

    key: AttemptKey
    offset: int
    spooled_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogGrew:
    """More log bytes can be sent."""

    key: AttemptKey
    spooled_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AckLog:
    """Log bytes below `committed_offset` are durable at the server."""

    key: AttemptKey
    committed_offset: int
    window_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardLog:
    """A heartbeat's verdict named the committed offset; twice the same with bytes on their way: those are lost."""

    key: AttemptKey
    committed_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindLog:
    """Send again from `expected_offset`."""

    key: AttemptKey
    expected_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLog:
    """Send no more of this log."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLogLimits:
    """What the Welcome allows."""

    window_bytes: int
    max_chunk_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSession:
    """End the session. The next try waits `reconnect_after_s` plus a random part of `jitter_s`; None: back-off."""

    reason: str
    reconnect_after_s: float | None = None
    jitter_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """The agent is done: exit with 0. Shims that live go on. `for_good`: nothing lives that needs the fork server."""

    reason: str
    for_good: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line for the agent's own log."""

    event: str
    key: AttemptKey | None = None
    detail: str = ""
    warning: bool = False


Output = (
    Send
    | JournalAccept
    | Prepare
    | Fork
    | EndUnstarted
    | StopTree
    | TerminateShim
    | RenewLoss
    | Forget
    | OpenLog
    | LogGrew
    | AckLog
    | HeardLog
    | RewindLog
    | CloseLog
    | SetLogLimits
    | CloseSession
    | Leave
    | Note
)
