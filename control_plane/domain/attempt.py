"""An attempt: one try of a run on one runner, and the table of its states."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from control_plane.domain.ids import AttemptKey, Holder, RunId, RunnerId
from control_plane.domain.log import LogGap
from control_plane.domain.machine import terminal
from control_plane.domain.progress import Progress, ResourceUsage
from control_plane.domain.reason import Reason
from control_plane.domain.spec import StepKind


class AttemptState(StrEnum):
    OFFERED = "OFFERED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    REJECTED = "REJECTED"


class AttemptEvent(StrEnum):
    """What may happen to an attempt."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"
    STARTED = "STARTED"
    NOT_STARTED = "NOT_STARTED"
    START_FAILED = "START_FAILED"
    ENDED_WELL = "ENDED_WELL"
    ENDED_BADLY = "ENDED_BADLY"
    STOP_REQUESTED = "STOP_REQUESTED"
    STOPPED_BY_CANCEL = "STOPPED_BY_CANCEL"
    STOPPED_BY_TIMEOUT = "STOPPED_BY_TIMEOUT"
    STOPPED_BY_RUNNER = "STOPPED_BY_RUNNER"
    FORCED = "FORCED"
    LOST = "LOST"


_S = AttemptState
_E = AttemptEvent
ATTEMPT_TABLE: Mapping[AttemptState, Mapping[AttemptEvent, AttemptState]] = {
    _S.OFFERED: {
        _E.ACCEPTED: _S.STARTING,
        _E.REJECTED: _S.REJECTED,
        _E.WITHDRAWN: _S.REJECTED,
        _E.STOP_REQUESTED: _S.CANCELLED,
    },
    _S.STARTING: {
        _E.STARTED: _S.RUNNING,
        _E.NOT_STARTED: _S.REJECTED,
        _E.START_FAILED: _S.FAILED,
        _E.STOP_REQUESTED: _S.STOPPING,
        _E.LOST: _S.LOST,
    },
    _S.RUNNING: {
        _E.ENDED_WELL: _S.SUCCEEDED,
        _E.ENDED_BADLY: _S.FAILED,
        _E.STOP_REQUESTED: _S.STOPPING,
        _E.LOST: _S.LOST,
    },
    _S.STOPPING: {
        _E.STOP_REQUESTED: _S.STOPPING,
        _E.STOPPED_BY_CANCEL: _S.CANCELLED,
        _E.STOPPED_BY_TIMEOUT: _S.TIMED_OUT,
        _E.STOPPED_BY_RUNNER: _S.LOST,
        _E.FORCED: _S.CANCELLED,
        _E.LOST: _S.LOST,
    },
    _S.SUCCEEDED: {},
    _S.FAILED: {},
    _S.TIMED_OUT: {},
    _S.CANCELLED: {},
    _S.LOST: {},
    _S.REJECTED: {},
}
ATTEMPT_TERMINAL = terminal(ATTEMPT_TABLE)
# A runner has it, or may have it: everything that an Assignment went out for and that has not ended.
ATTEMPT_HELD = frozenset({_S.STARTING, _S.RUNNING, _S.STOPPING})
ATTEMPT_LIVE = ATTEMPT_HELD | {_S.OFFERED}


class StopPhase(StrEnum):
    REQUESTED = "REQUESTED"
    RECEIVED = "RECEIVED"
    SIGNALLED = "SIGNALLED"
    KILLED = "KILLED"


STOP_PHASE_ORDER = (StopPhase.REQUESTED, StopPhase.RECEIVED, StopPhase.SIGNALLED, StopPhase.KILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRecord:
    """A stop that was ordered: by whom, why, and how far it has come. The first reason stored stays."""

    reason: Reason
    phase: StopPhase
    requested_at: datetime
    signal: str
    grace_s: float
    received_at: datetime | None = None
    signalled_at: datetime | None = None
    killed_at: datetime | None = None
    requested_by: str = ""
    note: str = ""
    survivors: int = 0
    # By the server's clock; the three above are by the host's.
    received_heard_at: datetime | None = None
    signalled_heard_at: datetime | None = None
    killed_heard_at: datetime | None = None


class Connectivity(StrEnum):
    """Whether the server reaches the host of a live attempt."""

    CONNECTED = "CONNECTED"
    # Its runner has no session.
    DISCONNECTED = "DISCONNECTED"
    # Its runner speaks from another state directory.
    HOLDER_AWAY = "HOLDER_AWAY"
    # Its runner is connected and does not speak for it any more: its loss clock runs.
    NOT_RENEWED = "NOT_RENEWED"
    # Its runner has set its run directory aside: its loss clock runs.
    SET_ASIDE = "SET_ASIDE"


class EndProof(StrEnum):
    """What is known of the processes of an attempt that is over."""

    CONFIRMED = "CONFIRMED"
    PRESUMED_DEAD = "PRESUMED_DEAD"
    NOT_PROVEN = "NOT_PROVEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The end of one process of an attempt."""

    index: int
    kind: StepKind
    name: str = ""
    exit_code: int | None = None
    signal: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt as stored; what has no column (`runner_name`, `disconnected_since` …) is for readers."""

    run_id: RunId
    lease_epoch: int
    runner_id: RunnerId
    # Empty until the runner accepts: only then is there a holder.
    state_directory_id: str = ""
    runner_name: str = ""
    state: AttemptState
    # 1 for the first try; offers that came to nothing are not counted.
    number: int
    slots: int = 1
    reason: Reason | None = None
    error_message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    steps: tuple[StepResult, ...] = ()
    offered_at: datetime
    # When the acceptance was committed: from here on an Assignment may have gone out.
    assigned_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    stop: StopRecord | None = None
    # The exit record is stored (evidence), whatever the state is.
    exit_stored: bool = False
    kill_confirmed: bool = False
    pid: int = 0
    boot_id: str = ""
    cpu_s: float | None = None
    max_rss_bytes: int = 0
    usage_source: str = ""
    survivors_killed: int = 0
    # The end of the log by the exit record; None until it is known.
    final_offset: int | None = None
    # The runner's own digest, from the exit record.
    expected_digest: str = ""
    log_counted: bool = True
    gaps: tuple[LogGap, ...] = ()
    # What is stored and sealed.
    log_bytes: int = 0
    log_digest: str = ""
    log_complete: bool = False
    log_sealed_at: datetime | None = None
    # Its bytes are no longer kept; size and digest are.
    log_deleted_at: datetime | None = None
    # The runner was told to forget it (Release).
    released_at: datetime | None = None
    disconnected_since: datetime | None = None
    connectivity: Connectivity | None = None
    # When it is lost unless it is heard of before.
    given_up_at: datetime | None = None
    # Why its run directory was set aside.
    host_message: str = ""
    progress: Progress | None = None
    usage: ResourceUsage | None = None
    # Its artifacts are awaited, until then at most; None: they are there, or none will come.
    artifacts_due_at: datetime | None = None
    # Where its runner keeps its workspace, and until when.
    workspace_path: str = ""
    workspace_kept_until: datetime | None = None

    @property
    def key(self) -> AttemptKey:
        return AttemptKey(run_id=self.run_id, lease_epoch=self.lease_epoch)

    @property
    def holder(self) -> Holder | None:
        if not self.state_directory_id:
            return None
        return Holder(runner_id=self.runner_id, state_directory_id=self.state_directory_id)

    @property
    def is_handed_in(self) -> bool:
        """Its runner has nothing more that the control plane wants."""
        return self.log_sealed_at is not None and self.artifacts_due_at is None

    @property
    def is_live(self) -> bool:
        return self.state in ATTEMPT_LIVE

    @property
    def end_proof(self) -> EndProof | None:
        """None while it is not over, and if it was never assigned."""
        if self.is_live or self.assigned_at is None:
            return None
        if self.kill_confirmed:
            return EndProof.CONFIRMED
        lost = self.state is AttemptState.LOST and self.reason is Reason.RUNNER_LOST
        return EndProof.PRESUMED_DEAD if lost else EndProof.NOT_PROVEN
