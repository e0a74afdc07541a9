"""The shim's decisions: (state, event, now) -> (state, orders). Pure: no I/O, no clock, nothing but values.

Order of a step: fork -> store the identity -> look at the loss deadline, last -> release -> exec -> leader exits ->
drain (2 s at most) -> clear the tree -> next step or the end. A stop signals the tree at once, and kills it when its
grace is over; the first reason wins. After a stop no further step runs, not even one that says `always`.
"""

from __future__ import annotations

from runner_agent.shim.messages import Phase, Reason, Started, StepEnded, StepKind, StepRecord
from runner_agent.shim.orders import (
    AbandonChild,
    ClearTree,
    Decision,
    Finish,
    ForkChild,
    Output,
    Refuse,
    ReleaseChild,
    StoreIdentity,
    Tell,
)
from runner_agent.shim.records import replace
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
    Stage,
    State,
    StopRequested,
    Ticked,
    TreeCleared,
    TreeEmpty,
)
from runner_agent.shim.stopping import deadlines, mark, own_stop, request_stop, signal_once, stop_by_clock
from runner_agent.shim.verdict import has_failed, judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never, NoReturn

_BEFORE_START = (Stage.NEW, Stage.REFUSED)
_OVER = (Stage.REFUSED, Stage.FINISHED)


def decide(state: State, event: Event, now: Instant) -> Decision:
    """What follows from `event`, and from the time that has passed, at `now`.

    An event that does not fit the stage (a repeat, or one that crossed another) changes nothing.
    """
    if state.stage in _OVER:
        return state, ()
    state, orders = _hear(state, event, now)
    if state.stage in _OVER or state.stage in _BEFORE_START:
        return state, orders
    state, clocks = _look_at_clocks(state, now)
    return state, orders + clocks


def next_wake_ns(state: State) -> int | None:
    """The CLOCK_BOOTTIME instant at which the next deadline passes; None if there is none."""
    if state.stage in _OVER or state.stage in _BEFORE_START:
        return None
    due = [deadline for deadline, _ in deadlines(state)]
    if state.stop is not None and state.stage is not Stage.CLEARING:
        due.append(state.stop.kill_at_ns)
    if state.stage is Stage.DRAINING and state.drain_until_ns is not None:
        due.append(state.drain_until_ns)
    return min(due, default=None)


def sleep_s(state: State, now_ns: int) -> float:
    """How long to sleep at most: 30 s, and 1 s within a minute of a deadline (a sleep stands still in a suspend)."""
    wake = next_wake_ns(state)
    if wake is None:
        return 30.0
    left_s = (wake - now_ns) / NS
    if left_s > 60.0:
        return 30.0
    return min(1.0, max(0.0, left_s))


def _hear(state: State, event: Event, now: Instant) -> Decision:  # noqa: C901 - one case per event
    match event:
        case Begun():
            return _begin(state, event, now)
        case ChildForked():
            return _forked(state, event)
        case ForkFailed():
            return _fork_failed(state, event, now)
        case IdentityStored():
            return _identity_stored(state, event, now)
        case Executed():
            return _executed(state, now)
        case ExecFailed():
            return _exec_failed(state, event, now)
        case LeaderExited():
            return _leader_exited(state, event, now)
        case PipesClosed():
            return _tree_quiets(replace(state, pipes_open=False), now)
        case TreeEmpty():
            return _tree_quiets(replace(state, tree_empty=True), now)
        case TreeCleared():
            return _cleared(state, event, now)
        case Active():
            return replace(state, active_at_ns=now.boottime_ns), ()
        case StopRequested():
            return request_stop(state, event, now)
        case Renewed():
            return replace(state, loss_deadline_ns=event.loss_deadline_ns), ()
        case Ticked():
            return state, ()
        case _:
            return _never(event)


def _never(event: Never) -> NoReturn:
    raise AssertionError(f"no event: {event!r}")


# ---- a step's way


def _begin(state: State, event: Begun, now: Instant) -> Decision:
    if state.stage is not Stage.NEW:
        return state, ()
    refusal = None
    if not event.locked:
        refusal = Refuse(code="LOCKED", message="another process holds this run directory")
    elif event.tombstone:
        refusal = Refuse(code="TOMBSTONE", message="a tombstone says that this attempt can start no more")
    elif event.used:
        refusal = Refuse(code="USED", message="this attempt was started before")
    if refusal is not None:
        return replace(state, stage=Stage.REFUSED), (refusal,)
    return _fork(replace(state, began_at_ns=now.boottime_ns), 0, now)


def _fork(state: State, step: int, now: Instant) -> Decision:
    if _passed(state.loss_deadline_ns, now):
        state, orders = request_stop(state, own_stop(state, Reason.RUNNER_LOST), now)
        state, more = _finish(state, now)
        return state, orders + more
    if state.stop is not None:
        return _finish(state, now)
    state = replace(
        state,
        stage=Stage.FORKING,
        step=step,
        pid=None,
        current=StepRecord(index=step, kind=state.plan.steps[step].kind),
        step_started_at_ns=None,
        drain_until_ns=None,
        leader_gone=False,
        pipes_open=True,
    )
    return state, (ForkChild(step=step),)


def _forked(state: State, event: ChildForked) -> Decision:
    if state.stage is not Stage.FORKING:
        return state, ()
    state = replace(state, stage=Stage.BARRIER, pid=event.pid, tree_empty=False)
    return state, (StoreIdentity(step=state.step, pid=event.pid),)


def _fork_failed(state: State, event: ForkFailed, now: Instant) -> Decision:
    if state.stage is not Stage.FORKING:
        return state, ()
    return _finish(replace(state, current=None, trouble=event.message), now)


def _identity_stored(state: State, event: IdentityStored, now: Instant) -> Decision:
    """The start barrier. The loss deadline is looked at here, last, and nothing is executed after it."""
    if state.stage is not Stage.BARRIER:
        return state, ()
    orders: tuple[Output, ...] = ()
    if not event.stored:
        state = replace(state, trouble=event.message)
    elif _passed(state.loss_deadline_ns, now):
        state, orders = request_stop(state, own_stop(state, Reason.RUNNER_LOST), now)
    if state.stop is None and event.stored:
        return replace(state, stage=Stage.RELEASED), (ReleaseChild(),)
    return replace(state, stage=Stage.ABANDONED), (*orders, AbandonChild())


def _executed(state: State, now: Instant) -> Decision:
    """The status pipe closed. It may do so late: after the leader's exit, or while a stop already kills the tree."""
    current, pid = state.current, state.pid
    if state.stage not in (Stage.RELEASED, Stage.CLEARING) or current is None or pid is None:
        return state, ()
    if current.started_at_ns is not None or current.spawn_errno is not None:
        return state, ()
    state = replace(
        state,
        current=replace(current, started_at_ns=now.wall_ns),
        step_started_at_ns=now.boottime_ns,
        active_at_ns=now.boottime_ns,
    )
    if state.main_started_at_ns is None and current.kind is StepKind.MAIN:
        state = replace(state, main_started_at_ns=now.boottime_ns, main_started_wall_ns=now.wall_ns)
    told = Tell(event=Started(step=state.step, pid=pid, at_ns=now.wall_ns))
    if state.stage is Stage.CLEARING:
        return state, (told,)
    state, orders = signal_once(replace(state, stage=Stage.RUNNING), now)
    state, more = _drain(state, now) if state.leader_gone else (state, ())
    return state, (told, *orders, *more)


def _exec_failed(state: State, event: ExecFailed, now: Instant) -> Decision:
    current = state.current
    if state.stage not in (Stage.RELEASED, Stage.CLEARING) or current is None or current.started_at_ns is not None:
        return state, ()
    current = replace(
        current,
        exit_code=None,
        signal=None,
        spawn_errno=event.errno,
        spawn_message=event.message,
        ended_at_ns=now.wall_ns,
    )
    if state.stage is Stage.CLEARING:
        return replace(state, current=current), ()
    return replace(state, stage=Stage.CLEARING, current=current), (ClearTree(),)


def _leader_exited(state: State, event: LeaderExited, now: Instant) -> Decision:
    current = state.current
    if state.leader_gone or current is None:
        return state, ()
    state = replace(state, leader_gone=True)
    if state.stage is Stage.BARRIER:
        state = replace(state, trouble="the step's process died before it could be started")
    if state.stage is Stage.ABANDONED or state.stage is Stage.BARRIER:
        return replace(state, stage=Stage.CLEARING, current=None), (ClearTree(),)
    if current.spawn_errno is None:
        current = replace(
            current,
            exit_code=event.exit_code,
            signal=event.signal,
            oom_killed=event.oom_killed,
            ended_at_ns=now.wall_ns,
        )
    state = replace(state, current=current)
    return _drain(state, now) if state.stage is Stage.RUNNING else (state, ())


def _drain(state: State, now: Instant) -> Decision:
    state = replace(state, stage=Stage.DRAINING, drain_until_ns=now.boottime_ns + state.plan.drain_ns)
    return _tree_quiets(state, now)


def _tree_quiets(state: State, now: Instant) -> Decision:
    """After the leader: done when all is quiet; without a stop, what is left is killed after the drain."""
    if state.stage is not Stage.DRAINING:
        return state, ()
    if state.tree_empty and not state.pipes_open:
        return _step_done(state, now)
    drained = not state.pipes_open or _passed(state.drain_until_ns, now)
    if drained and (state.stop is None or state.tree_empty):
        return replace(state, stage=Stage.CLEARING), (ClearTree(),)
    return state, ()


def _cleared(state: State, event: TreeCleared, now: Instant) -> Decision:
    if state.stage is not Stage.CLEARING:
        return state, ()
    state = replace(state, tree_empty=event.empty, killed=state.killed + event.killed, pipes_open=False)
    if not event.empty and not state.trouble:
        state = replace(state, trouble="some processes could not be killed; the kernel does not say that none is left")
    orders: tuple[Output, ...] = ()
    if state.stop is not None and event.killed > 0:
        state, orders = mark(state, Phase.KILLED, now)
    state, more = _step_done(state, now)
    return state, orders + more


def _step_done(state: State, now: Instant) -> Decision:
    orders: tuple[Output, ...] = ()
    if state.current is not None:
        record = state.current
        failed = state.failed
        if failed is None and has_failed(record, state.plan.steps[record.index]):
            failed = record.index
        state = replace(state, records=(*state.records, record), current=None, failed=failed)
        orders = (Tell(event=StepEnded(record=record)),)
    following = _next_step(state)
    state, more = _finish(state, now) if following is None else _fork(state, following, now)
    return state, orders + more


def _next_step(state: State) -> int | None:
    if state.stop is not None or not state.tree_empty or state.trouble:
        return None
    for index in range(state.step + 1, len(state.plan.steps)):
        if state.failed is None or state.plan.steps[index].always:
            return index
    return None


def _finish(state: State, now: Instant) -> Decision:
    return replace(state, stage=Stage.FINISHED), (Finish(verdict=judge(state, now)),)


# ---- clocks


def _look_at_clocks(state: State, now: Instant) -> Decision:
    state, orders = stop_by_clock(state, now)
    killable = (Stage.RELEASED, Stage.ABANDONED, Stage.RUNNING, Stage.DRAINING)
    if state.stop is not None and state.stage in killable and _passed(state.stop.kill_at_ns, now):
        return replace(state, stage=Stage.CLEARING), (*orders, ClearTree())
    state, more = _tree_quiets(state, now)
    return state, orders + more


def _passed(deadline_ns: int | None, now: Instant) -> bool:
    return deadline_ns is not None and now.boottime_ns >= deadline_ns
