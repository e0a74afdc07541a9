"""What the shim's decisions know and what they hear: plain values, nothing that does anything."""

from __future__ import annotations

from enum import StrEnum

from runner_agent.shim.messages import AttemptStart, Reason, StepKind, StepRecord, StopMark
from runner_agent.shim.records import dataclass

NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """Now, on both clocks: CLOCK_BOOTTIME for every deadline, wall clock for records. Nanoseconds."""

    boottime_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What the decisions need to know of a step."""

    kind: StepKind = StepKind.MAIN
    always: bool = False
    success_exit_codes: frozenset[int] = frozenset({0})
    timeout_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the decisions need to know of an attempt."""

    run_id: str
    epoch: int
    steps: tuple[StepPlan, ...]
    run_timeout_ns: int | None = None
    idle_timeout_ns: int | None = None
    start_timeout_ns: int | None = None
    stop_signal: int = 15
    grace_ns: int = 10 * NS
    drain_ns: int = 2 * NS


class Stage(StrEnum):
    """Where the current step is.

    FORKING: a child was ordered. BARRIER: it waits while its identity is stored. RELEASED: it is about to exec.
    ABANDONED: it was told not to. RUNNING: it was executed. DRAINING: the leader is gone, others may still write.
    CLEARING: the tree is being killed until the kernel says that it is empty. FINISHED: the record is due.
    """

    NEW = "NEW"
    REFUSED = "REFUSED"
    FORKING = "FORKING"
    BARRIER = "BARRIER"
    RELEASED = "RELEASED"
    ABANDONED = "ABANDONED"
    RUNNING = "RUNNING"
    DRAINING = "DRAINING"
    CLEARING = "CLEARING"
    FINISHED = "FINISHED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The stop under way: the first reason, when SIGKILL is due, and how far it has come."""

    reason: Reason
    signal: int
    kill_at_ns: int
    signalled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the shim's decisions remember."""

    plan: Plan
    loss_deadline_ns: int | None = None
    stage: Stage = Stage.NEW
    step: int = 0
    pid: int | None = None
    began_at_ns: int | None = None
    main_started_at_ns: int | None = None
    main_started_wall_ns: int | None = None
    step_started_at_ns: int | None = None
    active_at_ns: int = 0
    drain_until_ns: int | None = None
    leader_gone: bool = False
    pipes_open: bool = True
    tree_empty: bool = True
    current: StepRecord | None = None
    records: tuple[StepRecord, ...] = ()
    failed: int | None = None
    stop: Stop | None = None
    marks: tuple[StopMark, ...] = ()
    killed: int = 0
    trouble: str = ""


# ---- what they hear


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The shim looked at its run directory: does it hold the lock, is there a tombstone, was it used before?"""

    locked: bool
    tombstone: bool
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildForked:
    """The child of the current step exists and waits at the start barrier."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkFailed:
    """There is no child: the kernel refused."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityStored:
    """The waiting child's identity is on disk, synced; or it could not be stored."""

    stored: bool = True
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """The close-on-exec pipe closed without a word: the program runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecFailed:
    """The child could not become the program; `message` is for people."""

    errno: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderExited:
    """The step's own process was reaped: one of `exit_code` and `signal` is set."""

    exit_code: int | None
    signal: int | None
    oom_killed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PipesClosed:
    """Every writer of the step's output has closed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEmpty:
    """wait4 or the cgroup said that no process of the attempt is left, without any killing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCleared:
    """Killing is over and the pipes are drained: `killed` processes; `empty` only if the kernel said so."""

    killed: int
    empty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """Output, progress or a result was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """The agent (or SIGTERM) asks for a stop. Repeats are harmless; a shorter grace escalates."""

    reason: Reason
    signal: int
    grace_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """The loss deadline moves (CLOCK_BOOTTIME), or goes."""

    loss_deadline_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time has passed."""


Event = (
    Begun | ChildForked | ForkFailed | IdentityStored | Executed | ExecFailed | LeaderExited | PipesClosed | TreeEmpty
    | TreeCleared | Active | StopRequested | Renewed | Ticked
)  # fmt: skip


def initial_state(start: AttemptStart) -> State:
    """The state before anything has happened."""
    steps = tuple(
        StepPlan(
            kind=step.kind,
            always=step.always,
            success_exit_codes=step.success_exit_codes,
            timeout_ns=_ns(step.timeout_s),
        )
        for step in start.steps
    )
    plan = Plan(
        run_id=start.run_id,
        epoch=start.epoch,
        steps=steps,
        run_timeout_ns=_ns(start.run_timeout_s),
        idle_timeout_ns=_ns(start.idle_timeout_s),
        start_timeout_ns=_ns(start.start_timeout_s),
        stop_signal=start.stop_signal,
        grace_ns=int(start.grace_s * NS),
    )
    return State(plan=plan, loss_deadline_ns=start.loss_deadline_boottime_ns)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * NS)
