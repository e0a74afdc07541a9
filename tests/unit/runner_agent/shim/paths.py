"""Ways to every stage of the shim's decisions, by the events that really lead there."""

from __future__ import annotations

from runner_agent.shim.decisions import decide
from runner_agent.shim.messages import AttemptStart, Reason, StepStart
from runner_agent.shim.orders import Output
from runner_agent.shim.states import (
    NS,
    Active,
    Begun,
    ChildForked,
    Event,
    ExecFailed,
    Executed,
    ForkFailed,
    IdentityStored,
    Instant,
    LeaderExited,
    PipesClosed,
    Renewed,
    State,
    StopRequested,
    Ticked,
    TreeCleared,
    TreeEmpty,
    initial_state,
)

NOW = Instant(boottime_ns=1_000 * NS, wall_ns=5_000 * NS)
BEGIN = Begun(locked=True, tombstone=False, used=False)
STOP = StopRequested(reason=Reason.USER_CANCEL, signal=15, grace_ns=10 * NS)
EXIT_ZERO = LeaderExited(exit_code=0, signal=None)
CLEARED = TreeCleared(killed=0, empty=True)


def at(seconds: float) -> Instant:
    """So many seconds after NOW."""
    return Instant(boottime_ns=NOW.boottime_ns + int(seconds * NS), wall_ns=NOW.wall_ns + int(seconds * NS))


def step(**changes: object) -> StepStart:
    """A MAIN step."""
    return StepStart(**{"argv": ("true",), "env": {}, "cwd": "/", **changes})  # type: ignore[arg-type]


def start(*steps: StepStart, **changes: object) -> State:
    """The state before anything has happened; two MAIN steps unless told otherwise."""
    values = {"run_id": "r", "epoch": 1, "steps": steps or (step(), step()), "cookie": "c", **changes}
    return initial_state(AttemptStart(**values))  # type: ignore[arg-type]


def play(state: State, *events: Event, now: Instant = NOW) -> tuple[State, tuple[Output, ...]]:
    """The state after these events, and every order that they caused."""
    orders: tuple[Output, ...] = ()
    for event in events:
        state, more = decide(state, event, now)
        orders += more
    return state, orders


TO_BARRIER = (BEGIN, ChildForked(pid=42))
TO_RELEASED = (*TO_BARRIER, IdentityStored())
TO_RUNNING = (*TO_RELEASED, Executed())
TO_DRAINING = (*TO_RUNNING, EXIT_ZERO)
TO_CLEARING = (*TO_DRAINING, PipesClosed())

STATES = {
    "NEW": start(),
    "REFUSED": play(start(), Begun(locked=False, tombstone=False, used=False))[0],
    "FORKING": play(start(), BEGIN)[0],
    "BARRIER": play(start(), *TO_BARRIER)[0],
    "RELEASED": play(start(), *TO_RELEASED)[0],
    "ABANDONED": play(start(), *TO_BARRIER, STOP, IdentityStored())[0],
    "RUNNING": play(start(), *TO_RUNNING)[0],
    "DRAINING": play(start(), *TO_DRAINING)[0],
    "CLEARING": play(start(), *TO_CLEARING)[0],
    "FINISHED": play(start(step()), *TO_CLEARING, CLEARED)[0],
}

EVENTS: dict[str, Event] = {
    "Begun": BEGIN,
    "ChildForked": ChildForked(pid=43),
    "ForkFailed": ForkFailed(message="no"),
    "IdentityStored": IdentityStored(),
    "Executed": Executed(),
    "ExecFailed": ExecFailed(errno=2, message="not found"),
    "LeaderExited": EXIT_ZERO,
    "PipesClosed": PipesClosed(),
    "TreeEmpty": TreeEmpty(),
    "TreeCleared": CLEARED,
    "Active": Active(),
    "StopRequested": STOP,
    "Renewed": Renewed(loss_deadline_ns=None),
    "Ticked": Ticked(),
}
