"""The session's life: Hello with everything on disk, heartbeats with the held set, silence, and parting."""

from __future__ import annotations

from runner_agent.domain.changes import changed
from runner_agent.domain.held import Held
from runner_agent.domain.messages import Goodbye, Heartbeat, HeldAttempt, Hello
from runner_agent.domain.outputs import CloseLog, CloseSession, Send
from runner_agent.domain.state import (
    KEPT_STATEMENTS,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    SECOND_NS,
    AgentState,
    Session,
    SessionPhase,
    Turn,
)

PAGE_ENTRIES = 500
PAGE_BYTES = 1 << 20
HELLO_EXIT_BYTES = 8 << 20
WELCOME_TIMEOUT_S = 15.0


def say_hello(turn: Turn) -> None:
    """Tell the whole inventory, in pages. Every attempt's base for an Assignment is now this Hello."""
    turn.change(session=Session(phase=SessionPhase.GREETING, opened_boot_ns=turn.now, heard_boot_ns=turn.now))
    everything = tuple(turn.held.values())
    entries = _entries(everything, HELLO_EXIT_BYTES)
    listed = {entry.key for entry in entries}
    for held in everything:
        if held.key not in listed:
            continue
        turn.put(changed(held, told_boot_ns=turn.now, started_told=held.started_at_ns is not None))
    pages = _pages(entries)
    for number, page in enumerate(pages, start=1):
        turn.emit(Send(message=_hello(turn.state, page, more=number < len(pages))))


def close(turn: Turn) -> None:
    """The stream is gone. Nothing on the host changes; what this session was told is forgotten."""
    turn.change(session=Session())
    for held in tuple(turn.held.values()):
        if held.log_open:
            turn.emit(CloseLog(key=held.key))
        if held.log_open or held.started_told or held.told_boot_ns is not None:
            turn.put(changed(held, log_open=False, started_told=False, told_boot_ns=None))


def part(turn: Turn, message: Goodbye) -> None:
    """The server asks us to come back later."""
    turn.change_session(phase=SessionPhase.CLOSING)
    turn.emit(
        CloseSession(
            reason=f"the server said goodbye: {message.reason}",
            reconnect_after_s=message.reconnect_after_s,
            jitter_s=message.jitter_s,
        )
    )


def beat(turn: Turn) -> None:
    """Send the heartbeat that is due; give up a session that is silent."""
    session = turn.session
    if session.phase is SessionPhase.GREETING and turn.now >= _welcome_due(session):
        turn.change_session(phase=SessionPhase.CLOSING)
        turn.emit(CloseSession(reason=f"no Welcome within {WELCOME_TIMEOUT_S:.0f} s"))
    if session.phase is not SessionPhase.WELCOMED:
        return
    if turn.now >= _silence_due(session):
        turn.change_session(phase=SessionPhase.CLOSING)
        turn.emit(CloseSession(reason=f"the server was silent for {session.lease_s:.0f} s"))
    elif turn.now >= session.next_heartbeat_boot_ns:
        _send_heartbeat(turn)


def instants(state: AgentState) -> list[int]:
    """When the session next needs a Tick."""
    session = state.session
    if session.phase is SessionPhase.GREETING:
        return [_welcome_due(session)]
    if session.phase is SessionPhase.WELCOMED:
        return [_silence_due(session), session.next_heartbeat_boot_ns]
    return []


def _welcome_due(session: Session) -> int:
    return session.opened_boot_ns + int(WELCOME_TIMEOUT_S * SECOND_NS)


def _silence_due(session: Session) -> int:
    return session.heard_boot_ns + int(session.lease_s * SECOND_NS)


def _send_heartbeat(turn: Turn) -> None:
    state, session = turn.state, turn.session
    seq = session.seq + 1
    statements = (*session.statements, (seq, turn.now))[-KEPT_STATEMENTS:]
    due = turn.now + int(session.interval_s * SECOND_NS)
    turn.change_session(seq=seq, statements=statements, next_heartbeat_boot_ns=due)
    turn.tell(
        Heartbeat(
            seq=seq,
            free_slots=state.free_slots,
            load=state.load,
            disk_free_bytes=state.disk_free_bytes,
            draining=state.departing,
            held=tuple(_entries(tuple(state.held.values()), PAGE_BYTES)),
        )
    )


def _entries(everything: tuple[Held, ...], room: int) -> list[HeldAttempt]:
    """Every attempt; exit records until the server has them, and no more than fit. The server can ask for the rest."""
    entries: list[HeldAttempt] = []
    for held in everything:
        weight = held.exit.weight_bytes if held.exit is not None and not held.exit_stored else 0
        entry = held.as_entry(with_exit=0 < weight <= room)
        if entry is not None:
            entries.append(entry)
            room -= weight if entry.exit is not None else 0
            room -= entry.progress.weight_bytes if entry.progress is not None else 0
    return entries


def _pages(entries: list[HeldAttempt]) -> list[tuple[HeldAttempt, ...]]:
    pages: list[tuple[HeldAttempt, ...]] = []
    page: list[HeldAttempt] = []
    weight = 0
    for entry in entries:
        entry_weight = 128 + (entry.exit.weight_bytes if entry.exit is not None else 0)
        entry_weight += entry.progress.weight_bytes if entry.progress is not None else 0
        if page and (len(page) == PAGE_ENTRIES or weight + entry_weight > PAGE_BYTES):
            pages.append(tuple(page))
            page, weight = [], 0
        page.append(entry)
        weight += entry_weight
    return [*pages, tuple(page)]


def _hello(state: AgentState, page: tuple[HeldAttempt, ...], *, more: bool) -> Hello:
    identity = state.identity
    return Hello(
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        agent_version=identity.agent_version,
        capabilities=identity.capabilities,
        labels=identity.labels,
        slots=identity.slots,
        boot_id=identity.boot_id,
        state_directory_id=identity.state_directory_id,
        inventory=page,
        more=more,
        warnings=identity.warnings,
        draining=state.departing,
    )
