"""Leaving: drain, stop, kill, hand over. The agent goes when nothing lives here and what ended has been handed in."""

from __future__ import annotations

from runner_agent.domain.attempts import shut_down
from runner_agent.domain.held import LIVE, OVER, Phase
from runner_agent.domain.messages import DrainNotice
from runner_agent.domain.outputs import Leave
from runner_agent.domain.state import SECOND_NS, AgentState, Leaving, SessionPhase, Turn

SETTLE_S = 30.0
SETTLE_OFFLINE_S = 5.0
_NEXT = {Leaving.NO: Leaving.DRAIN, Leaving.DRAIN: Leaving.STOP, Leaving.STOP: Leaving.KILL, Leaving.KILL: Leaving.KILL}


def escalate(turn: Turn) -> None:
    """Once: take no more and finish what runs. Twice: stop it with its grace. Three times: kill it."""
    if turn.state.leaving is Leaving.HANDOVER:
        return
    leaving = _NEXT[turn.state.leaving]
    turn.change(leaving=leaving)
    turn.note("leaving", detail=leaving.value)
    if leaving is Leaving.DRAIN:
        turn.tell(DrainNotice(reason="the agent was asked to leave"))
    else:
        shut_down(turn, leaving)


def hand_over(turn: Turn) -> None:
    """Leave now; what runs goes on under its shims until the next agent comes."""
    turn.change(leaving=Leaving.HANDOVER)


def log_moved(turn: Turn) -> None:
    """A log is still being handed in: the patience begins anew."""
    if turn.state.idle_since_boot_ns is not None:
        turn.change(idle_since_boot_ns=turn.now)


def look(turn: Turn) -> None:
    """After every decision: may the agent go?"""
    state = turn.state
    if state.leaving is Leaving.NO:
        return
    if state.leaving is Leaving.HANDOVER:
        turn.emit(Leave(reason="handed over; what runs goes on under its shims", for_good=False))
        return
    if _busy(state):
        if state.idle_since_boot_ns is not None:
            turn.change(idle_since_boot_ns=None)
        return
    if state.idle_since_boot_ns is None:
        turn.change(idle_since_boot_ns=turn.now)
    if not _to_hand_in(state):
        turn.emit(Leave(reason="drained"))
    elif turn.now >= _settled(turn.state):
        turn.emit(Leave(reason="drained; what the server has not taken stays on disk for the next start"))


def instants(state: AgentState) -> list[int]:
    """When leaving next needs a Tick."""
    return [] if state.leaving is Leaving.NO or state.idle_since_boot_ns is None else [_settled(state)]


def _busy(state: AgentState) -> bool:
    phases = {held.phase for held in state.held.values()}
    return bool(phases & LIVE)


def _to_hand_in(state: AgentState) -> bool:
    waiting = OVER | {Phase.ACCEPTING, Phase.ACCEPTED, Phase.FORGETTING}
    return any(held.phase in waiting for held in state.held.values())


def _settled(state: AgentState) -> int:
    patience_s = SETTLE_S if state.session.phase is SessionPhase.WELCOMED else SETTLE_OFFLINE_S
    return (state.idle_since_boot_ns or 0) + int(patience_s * SECOND_NS)
