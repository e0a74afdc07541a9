"""What goes wrong: drawn from the seed, often, and counted by kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner_agent.domain.events import HandoverRequested, LeaveRequested
from tests.simulation.loop import Life
from tests.simulation.network import Link

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.world import World

# Names under which a life dies: rare steps are as likely as common ones.
SERVER_POINTS = (
    "",
    "before commit",
    "inside commit",
    "after commit",
    "log",
    "log: before sync",
    "send:",
    "send:LogAck",
)
AGENT_POINTS = ("", "agent Send", "agent carries out", "agent carries out Fork", "agent:", "agent start")
# A pause of the server of more than this it must notice by itself.
PAUSE_S = 8.0


class Faults:
    """Strikes at random instants until it is told to stop."""

    def __init__(self, world: World, every_s: float) -> None:
        self.world, self.rng, self._every_s = world, world.rng, every_s
        self.counts: dict[str, int] = {}
        self.partitions = 0
        self.active = True
        self._kinds: list[tuple[Callable[[], None], int]] = [
            (self._partition, 20), (self._cut, 10), (self._flaky, 8), (self._slow, 4), (self._server_crash, 14),
            (self._server_stop, 4), (self._agent_crash, 14), (self._shim_kill, 8), (self._fork_server_kill, 4),
            (self._all_killed, 3), (self._reboot, 4), (self._freeze, 12), (self._clock_step, 4), (self._clone, 2),
            (self._late_word, 4),
            (self._leave, 4), (self._handover, 5), (self._disk_full, 4), (self._log_disk, 3), (self._drain, 2),
        ]  # fmt: skip
        self._next()

    def _next(self) -> None:
        self.world.god.later(self.rng.expovariate(1.0 / self._every_s), self._strike)

    def _strike(self) -> None:
        if not self.active:
            return
        kinds, weights = zip(*self._kinds, strict=True)
        (kind,) = self.rng.choices(kinds, weights)
        kind()
        self._next()

    def count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.world.trace("fault", kind)

    def _host(self) -> Host:
        return self.rng.choice(self.world.hosts)

    def _span_s(self) -> float:
        return self.rng.choice((self.rng.uniform(0.5, 10), self.rng.uniform(10, 70), self.rng.uniform(60, 500)))

    # -- network

    def _partition(self) -> None:
        host, span_s = self._host(), self._span_s()
        way = self.rng.choice(("both", "both", "up", "down"))
        link = Link(up=way == "down", down=way == "up", stalls=self.rng.random() < 0.5)
        self.world.network.links[host.name] = link
        self.partitions += 1
        self.count(f"partition {way}")
        self.world.god.later(span_s, self._mend, host, link)

    def _mend(self, host: Host, link: Link) -> None:
        if self.world.network.links.get(host.name) is link:
            self.world.network.links[host.name] = Link()

    def _cut(self) -> None:
        host = self._host()
        for wire in list(self.world.network.wires):
            if wire.agent.host is host:
                wire.cut()
        self.count("cut")

    def _flaky(self) -> None:
        host = self._host()
        link = Link(
            drops=self.rng.choice((0.0, 0.05, 0.3)),
            doubles=self.rng.choice((0.0, 0.1, 0.3)),
            reorders=self.rng.choice((0.0, 0.2)),
        )
        self.world.network.links[host.name] = link
        self.count("flaky link")
        self.world.god.later(self.rng.uniform(5, 120), self._mend, host, link)

    def _slow(self) -> None:
        host = self._host()
        link = Link(slow_s=self.rng.choice((0.5, 3.0, 12.0)))
        self.world.network.links[host.name] = link
        self.count("slow link")
        self.world.god.later(self.rng.uniform(5, 120), self._mend, host, link)

    # -- deaths

    def _kill(self, life: Life, points: int, names: tuple[str, ...] = ("",)) -> None:
        if self.rng.random() < 0.8:
            life.arm(self.rng.randrange(1, points), self.rng.choice(names))
        else:
            life.kill()

    def _server_crash(self) -> None:
        if self.world.server is not None and self.world.server.life.alive:
            self.count("server killed")
            self._kill(self.world.server.life, 12, SERVER_POINTS)

    def _server_stop(self) -> None:
        server = self.world.server
        if server is not None and server.life.alive and server.serving:
            self.count("server stopped")
            server.say_goodbye()

    def _agent_crash(self) -> None:
        agent = self.world.agents.get(self._host().name)
        if agent is not None and agent.life.alive:
            self.count("agent killed")
            self._kill(agent.life, 10, AGENT_POINTS)

    def _shim_kill(self) -> None:
        shims = list(self._host().shims.values())
        if shims:
            self.count("shim killed")
            self._kill(self.rng.choice(shims).life, 8)

    def _fork_server_kill(self) -> None:
        guards = [life for host in self.world.hosts if (life := host.fork_server) is not None and life.alive]
        if guards:
            self.count("fork server killed")
            self._kill(self.rng.choice(guards), 3)

    def _all_killed(self) -> None:
        """Agent, shim and fork server together, or two of them."""
        host = self._host()
        agent = self.world.agents.get(host.name)
        lives = [shim.life for shim in host.shims.values()]
        lives += [] if host.fork_server is None else [host.fork_server]
        lives += [] if agent is None else [agent.life]
        self.rng.shuffle(lives)
        for life in lives[: self.rng.randrange(1, 4)]:
            life.kill()
        self.count("killed together")

    def _reboot(self) -> None:
        host = self._host()
        self.count("reboot")
        self.world.reboot(host)

    # -- time

    def _freeze(self) -> None:
        host = self._host()
        agent = self.world.agents.get(host.name)
        choices: list[tuple[str, Life | None]] = [
            ("agent", None if agent is None else agent.life),
            ("agent", None if agent is None else agent.life),
            ("server", None if self.world.server is None else self.world.server.life),
            ("fork server", host.fork_server),
        ]
        choices += [("shim", shim.life) for shim in host.shims.values()]
        kind, life = self.rng.choice(choices)
        if life is None or not life.alive or life.frozen:
            return
        self.count(f"{kind} frozen")
        life.freeze()
        thaw = next((shim.thaw for shim in host.shims.values() if shim.life is life), life.thaw)
        span_s = self._span_s()
        self.world.god.later(span_s, thaw)
        if kind == "server" and span_s > PAUSE_S:
            self.world.god.later(span_s, self._listens_again, life)

    def _listens_again(self, life: Life) -> None:
        # In peace it was thawed before its time.
        if life.alive and self.active:
            self.world.checks.awake_since = self.world.loop.now

    def _late_word(self) -> None:
        """An agent sleeps over the answer to its heartbeat; when it wakes, the link is gone for long."""
        host = self._host()
        agent = self.world.agents.get(host.name)
        if agent is None or not agent.life.alive or agent.life.frozen:
            return
        self.count("agent frozen, then cut off")
        agent.life.freeze()
        span_s = self.rng.uniform(20, 120)
        self.world.god.later(span_s, agent.life.thaw)
        self.world.god.later(span_s + 0.05, self._cut_off, host)

    def _cut_off(self, host: Host) -> None:
        if self.active:
            link = Link(up=False, down=False)
            self.world.network.links[host.name] = link
            self.partitions += 1
            self.world.god.later(self.rng.uniform(100, 600), self._mend, host, link)

    def _clock_step(self) -> None:
        step_s = self.rng.choice((-3_600.0, 3_600.0, -90.0, 90.0, 7.0))
        clocks = [self.world.clock, *(host.clock for host in self.world.hosts)]
        self.rng.choice(clocks).wall_s += step_s
        self.count("wall clock set")

    # -- people

    def _clone(self) -> None:
        self.count("credential cloned")
        self.world.clone(self._host(), self.rng.uniform(10, 90))

    def _leave(self) -> None:
        agent = self.world.agents.get(self._host().name)
        if agent is not None and agent.life.alive and agent.ready:
            self.count("agent asked to leave")
            for turn in range(self.rng.choice((1, 2, 3))):
                agent.life.later(turn * self.rng.uniform(0.1, 5.0), agent.hear, LeaveRequested())

    def _handover(self) -> None:
        agent = self.world.agents.get(self._host().name)
        if agent is not None and agent.life.alive and agent.ready:
            self.count("agent handed over")
            agent.life.later(0.0, agent.hear, HandoverRequested())

    def _drain(self) -> None:
        self.count("runner drained")
        self.world.drain(self._host(), self.rng.uniform(5, 120))

    # -- disks

    def _disk_full(self) -> None:
        host = self._host()
        host.full = True
        self.count("runner disk full")
        self.world.god.later(self.rng.uniform(0.5, 40), setattr, host, "full", False)

    def _log_disk(self) -> None:
        self.world.logs.broken = OSError(28, "no space left on device")
        self.count("server disk full")
        self.world.god.later(self.rng.uniform(0.5, 30), setattr, self.world.logs, "broken", None)
