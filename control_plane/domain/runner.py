"""A runner: an enrolled build host identity."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.domain.attempt import AttemptState
from control_plane.domain.ids import ProjectId, RunId, RunnerId
from control_plane.domain.session import HeldPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerAttempt:
    """An attempt that a runner has, or may have, on its disk. `state` None: unknown here; `phase` None: not listed."""

    run_id: RunId
    lease_epoch: int
    state: AttemptState | None = None
    phase: HeldPhase | None = None
    message: str = ""
    log_sealed: bool = False
    accepted_at: datetime | None = None
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneAlarm:
    """A sign that two hosts use one identity."""

    at: datetime
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """One runner as stored; what has no column (`slots_used`, `held_run_ids` …) is for readers."""

    id: RunnerId
    name: str
    pool: str = ""
    # What it claims at Hello, limited to what its join token granted.
    labels: Mapping[str, str] = field(default_factory=dict)
    granted_labels: Mapping[str, str] = field(default_factory=dict)
    allowed_project_ids: tuple[ProjectId, ...] = ()
    slots: int = 0
    # An operator's order; it outlives sessions.
    draining: bool = False
    revoked_at: datetime | None = None
    public_key: bytes = b""
    # Credentials of another generation are void: a revocation and a replacement raise it.
    credential_generation: int = 1
    agent_version: str = ""
    boot_id: str = ""
    state_directory_id: str = ""
    warnings: tuple[str, ...] = ()
    created_at: datetime
    last_seen_at: datetime | None = None
    session_epoch: int = 0
    slots_used: int = 0
    connected: bool = False
    disconnected_since: datetime | None = None
    held_run_ids: tuple[RunId, ...] = ()
    connected_since: datetime | None = None
    attempts: tuple[RunnerAttempt, ...] = ()
    unknown_run_ids: tuple[RunId, ...] = ()
    clone_alarms: tuple[CloneAlarm, ...] = ()
