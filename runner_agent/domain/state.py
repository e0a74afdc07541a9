"""All that the agent's decisions rest on, as one value, and the turn in which a decision makes the next one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from runner_agent.domain.changes import changed
from runner_agent.domain.held import TAKES_SLOT, Held, Phase
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.domain.messages import RunnerMessage
from runner_agent.domain.outputs import Note, Output, Send

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
KEPT_STATEMENTS = 16
KEPT_FORGOTTEN = 1_000
SECOND_NS = 1_000_000_000


class SessionPhase(StrEnum):
    """Where the stream stands."""

    OFFLINE = "OFFLINE"
    GREETING = "GREETING"  # Hello was sent: no work before Welcome
    WELCOMED = "WELCOMED"
    CLOSING = "CLOSING"  # we or the server have ended it; nothing more is sent or believed


class Leaving(StrEnum):
    """How far the agent has been asked to leave."""

    NO = "NO"
    DRAIN = "DRAIN"
    STOP = "STOP"
    KILL = "KILL"
    HANDOVER = "HANDOVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What Hello says about this host and agent."""

    agent_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    slots: int = 1
    boot_id: str = ""
    state_directory_id: str = ""
    capabilities: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One life of the stream. Instants are CLOCK_BOOTTIME ns; `statements` are (seq, sent at) of heartbeats."""

    phase: SessionPhase = SessionPhase.OFFLINE
    opened_boot_ns: int = 0
    heard_boot_ns: int = 0
    interval_s: float = 5.0
    lease_s: float = 15.0
    next_heartbeat_boot_ns: int = 0
    seq: int = 0
    statements: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """Everything. `forgotten` holds the newest released epoch per run, so that a belated offer starts nothing twice."""

    identity: Identity
    session: Session = Session()
    held: Mapping[AttemptKey, Held] = field(default_factory=dict)
    forgotten: Mapping[RunId, int] = field(default_factory=dict)
    server_draining: bool = False
    leaving: Leaving = Leaving.NO
    idle_since_boot_ns: int | None = None
    load: float = 0.0
    disk_free_bytes: int = 1 << 62
    min_disk_free_bytes: int = 0

    @property
    def draining(self) -> bool:
        """Whether no more is taken."""
        return self.server_draining or self.departing

    @property
    def departing(self) -> bool:
        """What the server is told: its own order it knows, and an echo of it would outlive a Resume by a heartbeat."""
        return self.leaving is not Leaving.NO

    @property
    def free_slots(self) -> int:
        """Slots that no attempt takes; an attempt that is over takes none."""
        taken = sum(held.slots for held in self.held.values() if held.phase in TAKES_SLOT)
        return max(0, self.identity.slots - taken)


def initial_state(identity: Identity, found: Iterable[Held], *, min_disk_free_bytes: int = 0) -> AgentState:
    """The state of a new agent that has found these attempts on disk."""
    return AgentState(
        identity=identity, held={held.key: held for held in found}, min_disk_free_bytes=min_disk_free_bytes
    )


class Turn:
    """One decision under way: the state so far and the outputs so far. Lives for one call of `decide`."""

    def __init__(self, state: AgentState, now_boot_ns: int) -> None:
        self.now = now_boot_ns
        self.outputs: list[Output] = []
        self._state = state
        self._held: dict[AttemptKey, Held] | None = None

    @property
    def state(self) -> AgentState:
        """The state with every change so far."""
        if self._held is not None:
            self._state = changed(self._state, held=self._held)
            self._held = None
        return self._state

    @property
    def held(self) -> Mapping[AttemptKey, Held]:
        """The attempts, with every change so far."""
        return self._state.held if self._held is None else self._held

    @property
    def session(self) -> Session:
        """The session, with every change so far."""
        return self._state.session

    @property
    def welcomed(self) -> bool:
        """Whether anything but Hello may be said."""
        return self._state.session.phase is SessionPhase.WELCOMED

    def put(self, held: Held) -> None:
        """Keep the new value of an attempt."""
        if self._held is None:
            self._held = dict(self._state.held)
        self._held[held.key] = held

    def drop(self, key: AttemptKey) -> None:
        """Forget an attempt, and remember that it was here."""
        if self._held is None:
            self._held = dict(self._state.held)
        self._held.pop(key, None)
        forgotten = dict(self._state.forgotten)
        epoch = max(forgotten.pop(key.run_id, 0), key.lease_epoch)
        forgotten[key.run_id] = epoch
        while len(forgotten) > KEPT_FORGOTTEN:
            del forgotten[next(iter(forgotten))]
        self.change(forgotten=forgotten)

    def change(self, **changes: object) -> None:
        """Set fields of the state."""
        self._state = changed(self.state, **changes)  # type: ignore[arg-type]

    def change_session(self, **changes: object) -> None:
        """Set fields of the session."""
        self.change(session=changed(self.session, **changes))  # type: ignore[arg-type]

    def emit(self, *outputs: Output) -> None:
        """Ask for something to be done."""
        self.outputs.extend(outputs)

    def tell(self, message: RunnerMessage) -> None:
        """Say it if there is a session; else the inventory of the next one will say it."""
        if self.welcomed:
            self.emit(Send(message=message))

    def note(self, event: str, key: AttemptKey | None = None, detail: str = "", *, warning: bool = False) -> None:
        """Leave a line in the agent's own log."""
        self.emit(Note(event=event, key=key, detail=detail, warning=warning))


def older_attempt_lives(held: Mapping[AttemptKey, Held], key: AttemptKey) -> AttemptKey | None:
    """An attempt of the same run with a lower epoch that may still have processes here."""
    for other in held.values():
        if other.key.run_id == key.run_id and other.key.lease_epoch < key.lease_epoch and other.phase in _MAY_LIVE:
            return other.key
    return None


_MAY_LIVE = frozenset({Phase.FORKING, Phase.RUNNING, Phase.STOPPING, Phase.UNKNOWN_SHIM})
