"""What crosses the session: the messages of the contract as values. Durations are seconds, instants wall-clock ns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from runner_agent.domain.assignment import Assignment
from runner_agent.domain.exit_report import ExitReport, Progress, StepReport
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.log import LogChunk
from runner_agent.domain.reason import Reason


class HeldPhase(StrEnum):
    """Where an attempt stands on this host, as the server is told."""

    ACCEPTED = "ACCEPTED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    QUARANTINED = "QUARANTINED"
    UNKNOWN_SHIM = "UNKNOWN_SHIM"


class StopPhase(StrEnum):
    """How far a stop has come."""

    RECEIVED = "RECEIVED"
    SIGNALLED = "SIGNALLED"
    KILLED = "KILLED"


class RejectReason(StrEnum):
    """Why an offer is refused."""

    NO_SLOT = "NO_SLOT"
    DRAINING = "DRAINING"
    LOW_DISK = "LOW_DISK"
    UNSUPPORTED = "UNSUPPORTED"
    IO_ERROR = "IO_ERROR"


class VerdictKind(StrEnum):
    """The server's answer to one entry of an inventory or a held set."""

    UNSPECIFIED = "UNSPECIFIED"
    KEEP = "KEEP"
    START = "START"
    STOP = "STOP"
    RELEASE = "RELEASE"
    SEND_EXIT = "SEND_EXIT"
    UNKNOWN = "UNKNOWN"
    FENCED = "FENCED"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStatus:
    """How far the stop of an attempt has come; `survivors` had to be killed."""

    key: AttemptKey
    phase: StopPhase
    survivors: int = 0
    at_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAttempt:
    """One entry of an inventory or a held set. `exit` is left out once the server has stored it."""

    key: AttemptKey
    phase: HeldPhase
    exit: ExitReport | None = None
    spooled_offset: int = 0
    boot_id: str = ""
    stop: StopStatus | None = None
    started_at_ns: int | None = None
    pid: int = 0
    message: str = ""
    progress: Progress | None = None


# ---- runner to server ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first message, in pages of at most 500 entries; `more` says that another one follows."""

    protocol_min: int
    protocol_max: int
    agent_version: str
    capabilities: tuple[tuple[str, str], ...]
    labels: Mapping[str, str]
    slots: int
    boot_id: str
    state_directory_id: str
    inventory: tuple[HeldAttempt, ...]
    more: bool
    warnings: tuple[str, ...]
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A sign of life with everything that is held."""

    seq: int
    free_slots: int
    load: float
    disk_free_bytes: int
    draining: bool
    held: tuple[HeldAttempt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferReply:
    """Accepted (`reject` is None), or refused with a reason."""

    key: AttemptKey
    reject: RejectReason | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """The first MAIN step was executed."""

    key: AttemptKey
    pid: int
    started_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """One step is over."""

    key: AttemptKey
    step: StepReport


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptProgress:
    """How far the run says it has come."""

    key: AttemptKey
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptExited:
    """The attempt is over; told before its log is complete."""

    key: AttemptKey
    exit: ExitReport


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainNotice:
    """This agent takes no more."""

    reason: str


RunnerMessage = (
    Hello
    | Heartbeat
    | OfferReply
    | AttemptStarted
    | StepEnded
    | AttemptProgress
    | AttemptExited
    | StopStatus
    | LogChunk
    | DrainNotice
)


# ---- server to runner ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop this attempt: signal, grace, then the ladder."""

    key: AttemptKey
    reason: Reason
    signal: str
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer to one entry. `renewed`: the statement that it answers renews the loss deadline."""

    key: AttemptKey
    kind: VerdictKind
    resume_offset: int = 0
    assignment: Assignment | None = None
    stop: Stop | None = None
    exit_stored: bool = False
    renewed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The server takes the session; work may begin."""

    session_epoch: int
    protocol: int
    heartbeat_interval_s: float
    lease_s: float
    log_window_bytes: int
    max_chunk_bytes: int
    verdicts: tuple[Verdict, ...] = ()
    draining: bool = False
    runner_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatAck:
    """The server has read heartbeat `seq`."""

    seq: int
    next_interval_s: float
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Will you take it? Holds no secrets."""

    key: AttemptKey
    slots: int
    summary: str
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """The offer stands no more."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """Another attempt holds the run: end this one."""

    key: AttemptKey
    current_lease_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Exit and log are safe: forget it."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAck:
    """Everything below `committed_offset` is durable; `window_bytes` past it may be on their way."""

    key: AttemptKey
    committed_offset: int
    window_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRewind:
    """Send again from `expected_offset`."""

    key: AttemptKey
    expected_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Take no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Take offers again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    """The server ends the session."""

    reason: str
    reconnect_after_s: float
    jitter_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unintelligible:
    """A message of a kind that this build does not know; it is passed over."""

    what: str


ServerMessage = (
    Welcome
    | HeartbeatAck
    | Offer
    | Withdraw
    | Assignment
    | Fenced
    | Release
    | Stop
    | LogAck
    | LogRewind
    | Drain
    | Resume
    | Goodbye
    | Unintelligible
)
