"""What the agent learns: from the stream, from the host, from its operator and from the clock."""

from __future__ import annotations

from dataclasses import dataclass

from runner_agent.domain.exit_report import ExitReport, Progress, StepReport
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.messages import ServerMessage, StopPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened:
    """A stream is open; nothing was said on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed:
    """The stream has ended, whoever ended it."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The server said something."""

    message: ServerMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalDone:
    """The acceptance is on disk."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFailed:
    """The acceptance could not be written."""

    key: AttemptKey
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The workspace is ready."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareFailed:
    """The workspace could not be made; the report says whose fault it is."""

    key: AttemptKey
    report: ExitReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first MAIN step was executed. Told again after a re-attach."""

    key: AttemptKey
    pid: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOver:
    """A step has ended. Told again after a re-attach."""

    key: AttemptKey
    step: StepReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """The run has told how far it has come. The newest is told again after a re-attach."""

    key: AttemptKey
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class StopMoved:
    """The kill ladder has come to `phase`."""

    key: AttemptKey
    phase: StopPhase
    survivors: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """The log below `offset` can be read."""

    key: AttemptKey
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """The attempt is over, with its record."""

    key: AttemptKey
    report: ExitReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Its files turned out to be unreadable."""

    key: AttemptKey
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShimUnknown:
    """It lives under a shim whose protocol this agent does not speak: it is kept until it has ended."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """Its files are gone."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadMoved:
    """Some more of its files has reached the server. `done`: nothing more is wanted."""

    key: AttemptKey
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed; with what the host looks like now."""

    load: float
    disk_free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveRequested:
    """SIGTERM or SIGINT: drain; again: stop; again: kill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverRequested:
    """SIGUSR1: leave now, the shims stay for the next agent."""


Event = (
    SessionOpened
    | SessionClosed
    | Received
    | JournalDone
    | JournalFailed
    | Prepared
    | PrepareFailed
    | Started
    | StepOver
    | Progressed
    | StopMoved
    | Spooled
    | Exited
    | Quarantined
    | ShimUnknown
    | Forgotten
    | UploadMoved
    | Tick
    | LeaveRequested
    | HandoverRequested
)
