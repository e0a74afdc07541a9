"""Names of things: opaque strings (UUIDv7) that never mix."""

from dataclasses import dataclass
from typing import NewType

ProjectId = NewType("ProjectId", str)
TaskId = NewType("TaskId", str)
TemplateId = NewType("TemplateId", str)
RunId = NewType("RunId", str)
RunnerId = NewType("RunnerId", str)
ScheduleId = NewType("ScheduleId", str)
PrincipalId = NewType("PrincipalId", str)
TokenId = NewType("TokenId", str)
JoinTokenId = NewType("JoinTokenId", str)
DeliveryId = NewType("DeliveryId", str)
ReportId = NewType("ReportId", str)
ArtifactId = NewType("ArtifactId", str)

_EPOCH_COUNTER_BITS = 48


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AttemptKey:
    """One try of a run: the run and its fence, a 64-bit counter whose high 16 bits are the database's generation."""

    run_id: RunId
    lease_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who accepted an attempt. The state directory's id tells a cloned credential from the first host."""

    runner_id: RunnerId
    state_directory_id: str


def generation_of(lease_epoch: int) -> int:
    """The generation under which a fence was given out."""
    return lease_epoch >> _EPOCH_COUNTER_BITS


def next_epoch(current: int, generation: int) -> int:
    """The fence behind `current`. A restore from backup raises the generation, so that no fence is given out twice."""
    if not 0 <= generation < 1 << 15:
        raise ValueError(f"generation {generation} does not fit a signed 64-bit fence")
    return max(current, generation << _EPOCH_COUNTER_BITS) + 1
