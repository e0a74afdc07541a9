"""One attempt that this runner holds: where it stands and what still has to be told about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from runner_agent.domain.assignment import DEFAULT_GRACE_S, DEFAULT_STOP_SIGNAL, Assignment
from runner_agent.domain.exit_report import ExitReport, Progress
from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.messages import HeldAttempt, HeldPhase, Stop, StopStatus


class Phase(StrEnum):
    """Where an attempt stands. From FORKING on processes may exist."""

    ACCEPTING = "ACCEPTING"  # the acceptance is on its way to the disk
    ACCEPTED = "ACCEPTED"  # journalled; nothing was forked, and nothing may be before an Assignment
    PREPARING = "PREPARING"  # assigned; its workspace is being made
    FORKING = "FORKING"  # handed to the fork server: from here on processes may exist
    RUNNING = "RUNNING"  # the first MAIN step was executed
    STOPPING = "STOPPING"  # the shim was told to stop it
    ENDING = "ENDING"  # it is being made sure that it can never start
    UNSTARTED = "UNSTARTED"  # over, and nothing was ever executed
    EXITED = "EXITED"  # over: an exit record exists
    FORGETTING = "FORGETTING"  # its files are being removed
    QUARANTINED = "QUARANTINED"  # its files cannot be read; kept for a person
    UNKNOWN_SHIM = "UNKNOWN_SHIM"  # runs under a shim that this agent does not understand


_TOLD = {
    Phase.ACCEPTED: HeldPhase.ACCEPTED,
    Phase.PREPARING: HeldPhase.STARTING,
    Phase.FORKING: HeldPhase.STARTING,
    Phase.RUNNING: HeldPhase.RUNNING,
    Phase.STOPPING: HeldPhase.STOPPING,
    Phase.ENDING: HeldPhase.STOPPING,
    Phase.UNSTARTED: HeldPhase.EXITED,
    Phase.EXITED: HeldPhase.EXITED,
    Phase.QUARANTINED: HeldPhase.QUARANTINED,
    Phase.UNKNOWN_SHIM: HeldPhase.UNKNOWN_SHIM,
}

OVER = frozenset({Phase.UNSTARTED, Phase.EXITED})
LIVE = frozenset({Phase.PREPARING, Phase.FORKING, Phase.RUNNING, Phase.STOPPING, Phase.ENDING, Phase.UNKNOWN_SHIM})
TAKES_SLOT = LIVE | {Phase.ACCEPTING, Phase.ACCEPTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An attempt and what is known of it. Instants that end in `_boot_ns` are CLOCK_BOOTTIME.

    `told_boot_ns`: when this session's first statement about it left, which is the base that an Assignment gives.
    `log_open`: the server has said in this session from where on it wants the log.
    `base_boot_ns`: send time of the newest statement that the server acked; the loss deadline counts from it.
    """

    key: AttemptKey
    phase: Phase
    slots: int = 1
    boot_id: str = ""
    assignment: Assignment | None = field(default=None, repr=False)
    lost_after_s: float | None = None
    grace_s: float = DEFAULT_GRACE_S
    stop_signal: str = DEFAULT_STOP_SIGNAL
    told_boot_ns: int | None = None
    base_boot_ns: int | None = None
    assigned_boot_ns: int | None = None
    stop: Stop | None = None
    stop_status: StopStatus | None = None
    exit: ExitReport | None = None
    exit_stored: bool = False
    started_told: bool = False
    pid: int = 0
    started_at_ns: int | None = None
    spooled_offset: int = 0
    log_open: bool = False
    # Why it was set aside.
    message: str = ""
    progress: Progress | None = None
    # When it was told last: often enough is once a second, and every heartbeat has it.
    progress_told_boot_ns: int | None = None
    # Its spec names files to be uploaded; `handed_in`: the server wants no more of them.
    artifacts: bool = False
    handed_in: bool = False
    # The server has said that it may be forgotten while its files were still on their way.
    released: bool = False

    @property
    def uploading(self) -> bool:
        """Its files are still wanted: only a verdict, which knows of them, releases it now."""
        return self.artifacts and not self.handed_in and self.exit is not None and self.exit.leaves_files

    @property
    def loss_deadline_boot_ns(self) -> int | None:
        """When it has to stop itself; None while there is no base or the task says never."""
        if self.lost_after_s is None or self.base_boot_ns is None:
            return None
        return self.base_boot_ns + int(self.lost_after_s * 1e9)

    @property
    def start_deadline_boot_ns(self) -> int | None:
        """When its preparation has taken too long."""
        if self.assignment is None or self.assigned_boot_ns is None:
            return None
        return self.assigned_boot_ns + int(self.assignment.start_timeout_s * 1e9)

    def as_entry(self, *, with_exit: bool = True) -> HeldAttempt | None:
        """The entry of an inventory or held set; None while there is nothing to say about it yet, or any more."""
        phase = _TOLD.get(self.phase)
        if phase is None:
            return None
        return HeldAttempt(
            key=self.key,
            phase=phase,
            exit=self.exit if with_exit else None,
            spooled_offset=self.spooled_offset,
            boot_id=self.boot_id,
            stop=self.stop_status,
            started_at_ns=self.started_at_ns,
            pid=self.pid,
            message=self.message,
            progress=None if self.exit is not None else self.progress,
        )
