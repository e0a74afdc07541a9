"""What the shim's decisions order: plain values, carried out by the shim's main loop."""

from __future__ import annotations

from runner_agent.shim.messages import (
    Outcome,
    Reason,
    Started,
    StepEnded,
    StepRecord,
    StopMark,
    StopPhase,
)
from runner_agent.shim.records import dataclass
from runner_agent.shim.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Leave without touching the run directory. `code`: LOCKED, TOMBSTONE or USED."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkChild:
    """Fork the child of this step, up to the start barrier."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIdentity:
    """Store and sync the identity of the waiting child."""

    step: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseChild:
    """Open the barrier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonChild:
    """Close the barrier unopened: the child leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalTree:
    """Send a polite signal to every process of the step."""

    signal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearTree:
    """Kill until the kernel says that the tree is empty, then answer with TreeCleared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStop:
    """Keep the first stop reason on disk, for whoever finds a dead shim."""

    reason: Reason
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Tell the agent, if one listens, and every later one."""

    event: Started | StepEnded | StopPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the attempt ended, as far as the decisions know it; the log's figures are added when it is stored."""

    outcome: Outcome
    reason: Reason
    message: str
    exit_code: int | None
    signal: int | None
    steps: tuple[StepRecord, ...]
    stopped_by: Reason | None
    stop_marks: tuple[StopMark, ...]
    survivors_killed: int
    tree_empty: bool
    started_at_ns: int | None
    ended_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Sync the spool, store the exit record, tell it, leave."""

    verdict: Verdict


Output = (
    Refuse | ForkChild | StoreIdentity | ReleaseChild | AbandonChild | SignalTree | ClearTree | StoreStop | Tell
    | Finish
)  # fmt: skip

Decision = tuple[State, tuple[Output, ...]]
