"""Stops: the first reason wins, a shorter grace escalates, and the clocks that ask for one. Pure."""

from __future__ import annotations

from runner_agent.shim.messages import Phase, Reason, StopMark, StopPhase
from runner_agent.shim.orders import Decision, SignalTree, StoreStop, Tell
from runner_agent.shim.records import replace
from runner_agent.shim.states import Instant, Stage, State, Stop, StopRequested


def request_stop(state: State, event: StopRequested, now: Instant) -> Decision:
    """The first reason wins; a later request can only bring the kill forward."""
    kill_at = now.boottime_ns + max(0, event.grace_ns)
    if state.stop is not None:
        return _kill_by(state, kill_at), ()
    state = replace(state, stop=Stop(reason=event.reason, signal=event.signal, kill_at_ns=kill_at))
    state, orders = mark(state, Phase.RECEIVED, now)
    # The signal waits neither for words nor for the disk: a stop that was acted on and forgotten is asked for again.
    state, signalled = signal_once(state, now)
    return state, (*signalled[:1], *orders, *signalled[1:], StoreStop(reason=event.reason, at_ns=now.wall_ns))


def own_stop(state: State, reason: Reason) -> StopRequested:
    """The stop that a clock of ours asks for."""
    return StopRequested(reason=reason, signal=state.plan.stop_signal, grace_ns=state.plan.grace_ns)


def signal_once(state: State, now: Instant) -> Decision:
    """Signal once, and only what was executed: a child on its way to exec is signalled when it has arrived."""
    stop = state.stop
    if stop is None or stop.signalled or state.stage not in (Stage.RUNNING, Stage.DRAINING):
        return state, ()
    state = replace(state, stop=replace(stop, signalled=True))
    state, orders = mark(state, Phase.SIGNALLED, now)
    return state, (SignalTree(signal=stop.signal), *orders)


def mark(state: State, phase: Phase, now: Instant) -> Decision:
    """Note and tell that the stop has come to `phase`."""
    noted = StopMark(phase=phase, at_ns=now.wall_ns, survivors=state.killed)
    told = StopPhase(phase=phase, survivors=state.killed, at_ns=now.wall_ns)
    return replace(state, marks=(*state.marks, noted)), (Tell(event=told),)


def stop_by_clock(state: State, now: Instant) -> Decision:
    """Stop if a deadline has passed; under a stop, the loss deadline still brings the kill forward."""
    for deadline_ns, reason in deadlines(state):
        if now.boottime_ns < deadline_ns:
            continue
        if state.stop is not None:
            return _kill_by(state, deadline_ns + state.plan.grace_ns), ()
        return request_stop(state, own_stop(state, reason), now)
    return state, ()


def deadlines(state: State) -> list[tuple[int, Reason]]:
    """The deadlines (CLOCK_BOOTTIME ns) that can still change something, the gravest first.

    An exited leader has met them all; what it left behind has only the drain.
    """
    loss_ns = state.loss_deadline_ns
    if state.stop is not None:
        brings_forward = loss_ns is not None and state.stop.kill_at_ns > loss_ns + state.plan.grace_ns
        return [(loss_ns, Reason.RUNNER_LOST)] if brings_forward and loss_ns is not None else []
    if state.leader_gone or state.stage is Stage.CLEARING:
        return []
    due = [] if loss_ns is None else [(loss_ns, Reason.RUNNER_LOST)]
    plan = state.plan
    if plan.start_timeout_ns is not None and state.main_started_at_ns is None and state.began_at_ns is not None:
        due.append((state.began_at_ns + plan.start_timeout_ns, Reason.START_TIMEOUT))
    if plan.run_timeout_ns is not None and state.main_started_at_ns is not None:
        due.append((state.main_started_at_ns + plan.run_timeout_ns, Reason.RUN_TIMEOUT))
    step_timeout_ns = plan.steps[state.step].timeout_ns
    if step_timeout_ns is not None and state.step_started_at_ns is not None:
        due.append((state.step_started_at_ns + step_timeout_ns, Reason.RUN_TIMEOUT))
    if plan.idle_timeout_ns is not None and state.stage is Stage.RUNNING:
        due.append((state.active_at_ns + plan.idle_timeout_ns, Reason.IDLE_TIMEOUT))
    return due


def _kill_by(state: State, kill_at_ns: int) -> State:
    if state.stop is None or state.stop.kill_at_ns <= kill_at_ns:
        return state
    return replace(state, stop=replace(state.stop, kill_at_ns=kill_at_ns))
