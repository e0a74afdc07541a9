"""The words of the session between a runner and the control plane, as plain values. Durations are seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.domain.attempt import StepResult, StopPhase
from control_plane.domain.ids import AttemptKey
from control_plane.domain.log import LogGap, LogRecord
from control_plane.domain.progress import Progress, ResourceUsage
from control_plane.domain.reason import Reason
from control_plane.domain.spec import RunSpec


class HeldPhase(StrEnum):
    """Where an attempt stands on the runner's disk."""

    ACCEPTED = "ACCEPTED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    QUARANTINED = "QUARANTINED"
    UNKNOWN_SHIM = "UNKNOWN_SHIM"


class ExitOutcome(StrEnum):
    ENDED_WELL = "ENDED_WELL"
    ENDED_BADLY = "ENDED_BADLY"
    NOT_STARTED = "NOT_STARTED"
    START_FAILED = "START_FAILED"
    SHIM_DIED = "SHIM_DIED"
    HOST_REBOOTED = "HOST_REBOOTED"


class VerdictKind(StrEnum):
    KEEP = "KEEP"
    START = "START"
    STOP = "STOP"
    RELEASE = "RELEASE"
    SEND_EXIT = "SEND_EXIT"
    UNKNOWN = "UNKNOWN"
    FENCED = "FENCED"


class RejectReason(StrEnum):
    NO_SLOT = "NO_SLOT"
    DRAINING = "DRAINING"
    LOW_DISK = "LOW_DISK"
    UNSUPPORTED = "UNSUPPORTED"
    IO_ERROR = "IO_ERROR"


# -- both ways --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """How an attempt ended, by the shim's (or the scanning agent's) word."""

    outcome: ExitOutcome
    reason: Reason | None = None
    exit_code: int | None = None
    signal: int | None = None
    error_message: str = ""
    steps: tuple[StepResult, ...] = ()
    # None: nobody stopped it, by the runner's own word.
    stopped_by: Reason | None = None
    tree_empty: bool = False
    survivors_killed: int = 0
    final_offset: int = 0
    digest: str = ""
    gaps: tuple[LogGap, ...] = ()
    started_at: datetime | None = None
    ended_at: datetime | None = None
    result_data: str = ""
    log_counted: bool = True
    permanent: bool = False
    pid: int = 0
    cpu_s: float | None = None
    max_rss_bytes: int = 0
    usage_source: str = ""
    signalled_at: datetime | None = None
    killed_at: datetime | None = None
    progress: Progress | None = None
    result_error: str = ""
    usage: ResourceUsage | None = None
    workspace_path: str = ""
    workspace_kept_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStatus:
    key: AttemptKey
    phase: StopPhase
    survivors: int = 0
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAttempt:
    """One entry of an inventory or of a held set."""

    key: AttemptKey
    phase: HeldPhase
    exit: ExitRecord | None = None
    spooled_offset: int = 0
    boot_id: str = ""
    stop: StopStatus | None = None
    started_at: datetime | None = None
    pid: int = 0
    # Why it was set aside.
    message: str = ""
    progress: Progress | None = None


# -- runner to server -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of a session; `more`: another page of the inventory follows."""

    protocol_min: int
    protocol_max: int
    agent_version: str = ""
    capabilities: tuple[Capability, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    slots: int = 1
    boot_id: str = ""
    state_directory_id: str
    inventory: tuple[HeldAttempt, ...] = ()
    more: bool = False
    warnings: tuple[str, ...] = ()
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    seq: int
    free_slots: int = 0
    load: float = 0.0
    disk_free_bytes: int = 0
    draining: bool = False
    held: tuple[HeldAttempt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferReply:
    key: AttemptKey
    accept: bool
    reject_reason: RejectReason | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    key: AttemptKey
    pid: int = 0
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEventReport:
    """Something inside a live attempt: the end of a step, or how far it has come."""

    key: AttemptKey
    step_ended: StepResult | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptExited:
    key: AttemptKey
    exit: ExitRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    key: AttemptKey
    offset: int
    records: tuple[LogRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainNotice:
    reason: str = ""


FromRunner = (
    Hello
    | Heartbeat
    | OfferReply
    | AttemptStarted
    | AttemptEventReport
    | AttemptExited
    | StopStatus
    | LogChunk
    | DrainNotice
)


# -- server to runner -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    key: AttemptKey
    reason: Reason
    signal: str
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Assignment:
    """Run this now. It carries secret values, so it has no repr that could reach a log."""

    key: AttemptKey
    spec: RunSpec
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    # None: never.
    lost_after_s: float | None
    project_name: str = ""
    task_name: str = ""
    attempt_number: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The server's answer to one held entry."""

    key: AttemptKey
    kind: VerdictKind
    resume_offset: int = 0
    assignment: Assignment | None = None
    stop: Stop | None = None
    exit_stored: bool = False
    # The entry renewed the attempt's lease and loss deadline.
    renewed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
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
    seq: int
    next_interval_s: float
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    key: AttemptKey
    slots: int
    summary: str
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    key: AttemptKey
    current_lease_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAck:
    key: AttemptKey
    committed_offset: int
    window_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRewind:
    key: AttemptKey
    expected_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    reason: str
    reconnect_after_s: float = 0.0
    jitter_s: float = 0.0


ToRunner = (
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
)
