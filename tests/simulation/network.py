"""The network between hosts and server: late, cut, one-way, silent; and the words as they cross it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from control_plane.api.session_messages import from_runner, to_runner
from control_plane.domain import session as server_words
from runner_agent.domain import messages as agent_words
from runner_agent.session.convert import from_wire, to_wire
from tests.simulation.loop import SimLoop

if TYPE_CHECKING:
    from tests.simulation.agent import SimAgent
    from tests.simulation.server import SimServer


@dataclass(slots=True)
class Link:
    """How a host's way to the server is just now. `stalls`: what is held up comes later, else it is lost."""

    up: bool = True
    down: bool = True
    stalls: bool = False
    slow_s: float = 0.0
    drops: float = 0.0
    doubles: float = 0.0
    reorders: float = 0.0

    @property
    def whole(self) -> bool:
        return self.up and self.down


class Network:
    """All links; the server that answers at the moment."""

    def __init__(self, loop: SimLoop, rng: random.Random, trace: Callable[..., None]) -> None:
        self.loop, self.rng, self.trace = loop, rng, trace
        self.links: dict[str, Link] = {}
        self.server: SimServer | None = None
        self.wires: list[Wire] = []
        # For people who read one seed's story.
        self.tell: Callable[..., None] | None = None
        self.acks: Callable[[agent_words.LogAck | agent_words.Verdict], None] = lambda ack: None
        self.sent = 0

    def note(self, way: str, host: str, message: Any) -> None:
        if self.tell is not None:
            self.tell(way, host, brief(message))

    def link(self, name: str) -> Link:
        return self.links.setdefault(name, Link())

    def dial(self, agent: SimAgent) -> None:
        """Connect, or learn after a while that it does not work."""
        link, server = self.link(agent.host.name), self.server
        if not link.whole:
            agent.life.later(5.0, agent.refused)
        elif server is None or not server.life.alive or server.life.frozen:
            agent.life.later(0.01 if server is None or not server.life.alive else 5.0, agent.refused)
        else:
            wire = Wire(self, agent, server)
            self.wires.append(wire)
            agent.life.later(self._delay_s(link) * 2, self._connected, wire)

    def _connected(self, wire: Wire) -> None:
        if not wire.server.life.alive:
            if wire in self.wires:
                self.wires.remove(wire)
            wire.agent.refused()
            return
        wire.server.life.later(0.0, wire.server.serve, wire)
        wire.agent.opened(wire)

    def _delay_s(self, link: Link) -> float:
        return self.rng.uniform(0.0003, 0.03) + link.slow_s

    def server_died(self, server: SimServer) -> None:
        """Its connections are reset, where that can be heard."""
        for wire in [wire for wire in self.wires if wire.server is server]:
            wire.reset_by_server()

    def heal(self) -> None:
        for name in self.links:
            self.links[name] = Link()


class Wire:
    """One stream: in order and whole while the link is good."""

    def __init__(self, network: Network, agent: SimAgent, server: SimServer) -> None:
        self.network, self.agent, self.server = network, agent, server
        self.to_agent_closed = self.to_server_closed = False
        self._last_up = self._last_down = 0.0
        self.inbox: Any = None

    # -- what is said

    def to_server(self, message: agent_words.RunnerMessage) -> None:
        self._carry(True, self._arrive_at_server, message)

    def to_agent(self, message: server_words.ToRunner) -> None:
        self._carry(False, self._arrive_at_agent, message)

    def _carry(self, up: bool, deliver: Callable[[Any], None], message: Any) -> None:
        network, loop = self.network, self.network.loop
        link, rng = network.link(self.agent.host.name), network.rng
        network.sent += 1
        if link.drops and rng.random() < link.drops:
            return
        at = loop.now + network._delay_s(link)
        if not (link.reorders and rng.random() < link.reorders):
            at = max(at, self._last_up if up else self._last_down)
            if up:
                self._last_up = at
            else:
                self._last_down = at
        loop.schedule(at, self._pass, (up, deliver, message), loop.god)
        if link.doubles and rng.random() < link.doubles:
            loop.schedule(at + rng.uniform(0.0, 0.2), self._pass, (up, deliver, message), loop.god)

    def _pass(self, up: bool, deliver: Callable[[Any], None], message: Any) -> None:
        """It is at the worst place of its way: does it get through?"""
        link = self.network.link(self.agent.host.name)
        if link.up if up else link.down:
            deliver(message)
        elif link.stalls:
            at = self.network.loop.now + 1.0
            self.network.loop.schedule(at, self._pass, (up, deliver, message), self.network.loop.god)

    def _arrive_at_server(self, message: agent_words.RunnerMessage | None) -> None:
        life = self.server.life
        self.network.note("->", self.agent.host.name, message)
        if life.alive and not self.to_server_closed:
            if message is None:
                self.to_server_closed = True
                life.later(0.0, self.server.take, self, None)
            else:
                life.later(0.0, self.server.take, self, to_server_words(message))

    def _arrive_at_agent(self, message: server_words.ToRunner | None) -> None:
        life = self.agent.life
        self.network.note("<-", self.agent.host.name, message)
        if not life.alive or self.to_agent_closed:
            return
        if message is None:
            self.to_agent_closed = True
            life.later(0.0, self.agent.closed, self, "the server ended the stream")
        else:
            life.later(0.0, self._hand_over, to_agent_words(message))

    def _hand_over(self, message: agent_words.ServerMessage) -> None:
        if isinstance(message, agent_words.LogAck):
            self.network.acks(message)
        elif isinstance(message, agent_words.Welcome | agent_words.HeartbeatAck):
            for verdict in message.verdicts:
                self.network.acks(verdict)
        self.agent.received(self, message)

    # -- how it ends

    def hang_up_by_agent(self) -> None:
        self.to_agent_closed = True
        self._carry(True, self._arrive_at_server, None)

    def reset_by_agent(self) -> None:
        self.hang_up_by_agent()

    def hang_up_by_server(self) -> None:
        self.to_server_closed = True
        self._carry(False, self._arrive_at_agent, None)
        if self in self.network.wires:
            self.network.wires.remove(self)

    def reset_by_server(self) -> None:
        self.hang_up_by_server()

    def cut(self) -> None:
        """The connection breaks; both ends learn it, what was under way is lost."""
        self._last_up = self._last_down = 0.0
        loop = self.network.loop
        loop.schedule(loop.now + 0.001, self._arrive_at_agent, (None,), loop.god)
        loop.schedule(loop.now + 0.001, self._arrive_at_server, (None,), loop.god)


def to_server_words(message: agent_words.RunnerMessage) -> server_words.FromRunner:
    """As the wire carries it; an idle heartbeat takes a shorter way."""
    if isinstance(message, agent_words.Heartbeat) and not message.held:
        return server_words.Heartbeat(
            seq=message.seq,
            free_slots=message.free_slots,
            load=message.load,
            disk_free_bytes=message.disk_free_bytes,
            draining=message.draining,
        )
    said = from_runner(to_wire(message))
    assert said is not None
    return said


def to_agent_words(message: server_words.ToRunner) -> agent_words.ServerMessage:
    if isinstance(message, server_words.HeartbeatAck) and not message.verdicts:
        return agent_words.HeartbeatAck(seq=message.seq, next_interval_s=message.next_interval_s)
    return from_wire(to_runner(message))


def brief(message: Any) -> str:
    """A message in one line."""
    if message is None:
        return "(end of stream)"
    words = [type(message).__name__]
    key = getattr(message, "key", None)
    if key is not None:
        words.append(f"{key.run_id[-6:]}.{key.lease_epoch & 0xFFFF}")
    names = ("seq", "offset", "committed_offset", "phase", "reason", "reject", "accept")
    words += [f"{name}={getattr(message, name)}" for name in names if hasattr(message, name)]
    if hasattr(message, "exit") and message.exit is not None:
        words.append(f"{message.exit.outcome} end={message.exit.final_offset}")
    for entry in (*getattr(message, "held", ()), *getattr(message, "inventory", ())):
        over = "" if entry.exit is None else f" {entry.exit.outcome}"
        words.append(f"[{entry.key.run_id[-6:]}.{entry.key.lease_epoch & 0xFFFF} {entry.phase}{over}]")
    for verdict in getattr(message, "verdicts", ()):
        renewed = "+" if verdict.renewed else ""
        words.append(f"[{verdict.key.run_id[-6:]}.{verdict.key.lease_epoch & 0xFFFF} {verdict.kind}{renewed}]")
    return " ".join(str(word) for word in words)
