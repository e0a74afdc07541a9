"""What happened to a run: one row for every stored move."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from control_plane.domain.ids import RunId
from control_plane.domain.reason import Reason


class RunEventType(StrEnum):
    CREATED = "CREATED"
    SKIPPED = "SKIPPED"
    OFFERED = "OFFERED"
    ACCEPTED = "ACCEPTED"
    RETURNED = "RETURNED"
    STARTED = "STARTED"
    WILL_RETRY = "WILL_RETRY"
    STOP_REQUESTED = "STOP_REQUESTED"
    STOP_PROGRESSED = "STOP_PROGRESSED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    EVIDENCE_ADDED = "EVIDENCE_ADDED"
    SETTLED = "SETTLED"
    # The only row that is left of a deleted run.
    DELETED = "DELETED"


TERMINAL_EVENT_TYPES = frozenset(
    {
        RunEventType.SKIPPED,
        RunEventType.SUCCEEDED,
        RunEventType.FAILED,
        RunEventType.TIMED_OUT,
        RunEventType.LOST,
        RunEventType.CANCELLED,
        RunEventType.EXPIRED,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEventRecord:
    """One row of a run's history. `number` is given by storage in commit order (0 before it is stored)."""

    run_id: RunId
    type: RunEventType
    at: datetime
    lease_epoch: int
    reason: Reason | None = None
    note: str = ""
    # Name of the principal who caused it; empty for the control plane itself.
    actor: str = ""
    number: int = 0
