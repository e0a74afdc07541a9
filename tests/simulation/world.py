"""One seed: hosts, a server, people who ask for runs, faults; then peace, and everything has to settle."""

from __future__ import annotations

import gc
import hashlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from control_plane.domain.errors import BanksmanError
from control_plane.domain.ids import AttemptKey, PrincipalId, ProjectId, RunId, RunnerId
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from control_plane.domain.run import RUN_TERMINAL, Run, RunOptions
from control_plane.domain.runner import Runner
from control_plane.domain.session import Drain, Resume, ToRunner
from control_plane.domain.spec import RunSpec
from control_plane.domain.stops import CancelOrder
from control_plane.domain.timing import Timing
from control_plane.lifecycle import runners, runs
from control_plane.storage import reads, writes
from tests.simulation import load
from tests.simulation.agent import SimAgent
from tests.simulation.checks import Checks
from tests.simulation.clocks import EPOCH, ServerClock
from tests.simulation.database import Store
from tests.simulation.faults import Faults
from tests.simulation.host import Host
from tests.simulation.loop import SimLoop
from tests.simulation.network import Network
from tests.simulation.server import LogFiles, SimServer
from tests.simulation.truth import Truth

# A clone goes for ever: the runs that it took end, but nobody can complete their logs.
OPEN_RUNS = """SELECT id, state, lease_epoch, EXISTS (SELECT 1 FROM attempts a WHERE a.run_id = r.id
    AND a.state_directory_id LIKE 'directory-of-clone%') FROM runs r WHERE settled_at IS NULL"""
HOUR_S = 3_600.0
SETTLE_S = 8 * HOUR_S
ANN = Principal(
    id=PrincipalId("01900000-0000-7000-8000-00000000a001"), kind=PrincipalKind.USER, name="ann", admin=True,
    created_at=EPOCH,
)  # fmt: skip


@dataclass(slots=True)
class Wish:
    """A run that somebody wants, under one request id until it is answered."""

    number: int
    spec: RunSpec
    run_id: str = ""
    cancelled: bool = False


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, *, hours: float = 1.0, every_s: float = 25.0, keep_trace: bool = False) -> None:
        self.seed, self.hours = seed, hours
        self.lines: list[str] = []
        self._keep_trace, self._hash = keep_trace, hashlib.sha256()
        self.rng = random.Random(seed)
        self.loop = SimLoop(self.trace)
        self.god = self.loop.god
        self.truth = Truth()
        self.network = Network(self.loop, self.rng, self.trace)
        self.clock = ServerClock(self.loop, seed, 1.0 + self.rng.uniform(-4e-4, 4e-4))
        self.checks = Checks(self.truth, lambda: self.loop.now, self.trace)
        self.logs = self.checks.logs = LogFiles()
        self.store = Store.make(self.checks)
        self.timing = Timing(heartbeat_shortest_s=self.rng.choice((5.0, 5.0, 10.0)))
        self.loop.executor_s = lambda: self.rng.uniform(0.0, 0.002)
        self.network.acks = self._acked
        self.checks.patience_s = self._patience_s
        if keep_trace:
            self.network.tell = self._note
        self.hosts = [Host(self.loop, self.truth, self.rng, f"h{n}") for n in range(self.rng.choice((3, 4, 5)))]
        self.runners: dict[str, Runner] = {}
        self.agents: dict[str, SimAgent] = {}
        self.server: SimServer | None = None
        self.wishes: list[Wish] = []
        self.project_id = ProjectId("")
        self.peace = False
        self._enrol()
        self.faults = Faults(self, every_s)
        for host in self.hosts:
            host.doom, host.fault = self.rng.choice((0.0, 0.05, 0.2)), self.faults.count
            self.start_agent(host)
        self._wish_rate_s = HOUR_S / self.rng.uniform(22, 40)
        self.god.later(1.0, self._wish)

    def trace(self, *words: object) -> None:
        line = f"{self.loop.now:11.4f} " + " ".join(str(word) for word in words)
        self._hash.update(line.encode())
        if self._keep_trace:
            self.lines.append(line)

    def _patience_s(self, run_id: str) -> float:
        """How long an attempt of this run is waited for at least, whatever the policy adds."""
        wish = next((wish for wish in self.wishes if wish.run_id == run_id), None)
        if wish is None or wish.spec.loss.lost_after_s is None:
            return 0.0
        return wish.spec.loss.lost_after_s + wish.spec.grace + self.timing.loss_margin_s

    def _note(self, *words: object) -> None:
        self.lines.append(f"{self.loop.now:11.4f} " + " ".join(str(word) for word in words))

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    # -- the house

    def _enrol(self) -> None:
        """The first server's start makes the rows; runners are enrolled by hand."""
        self.start_server()
        self.loop.run_until(2.0)
        assert self.server is not None
        connection = self.store.engine.connect()
        with connection.begin():
            self.project_id = reads.the_project(connection, "").id
            writes.insert_principal(connection, ANN, created_by="")
            for host in self.hosts:
                made = Runner(
                    id=RunnerId(self.clock.new_id()), name=host.name,
                    slots=2 if host is self.hosts[0] else self.rng.choice((1, 2, 4)),
                    state_directory_id=f"directory-of-{host.name}", created_at=EPOCH,
                )  # fmt: skip
                writes.insert_runner(connection, made, created_by=ANN.id)
                self.runners[host.name] = made

    def start_server(self) -> None:
        if self.server is not None and self.server.life.alive:
            return
        self.trace("server starts")
        self.server = SimServer(
            loop=self.loop, network=self.network, store=self.store, logs=self.logs, clock=self.clock,
            timing=self.timing, rng=self.rng, watcher=self.checks, stepped=lambda step_s: None,
        )  # fmt: skip
        self.server.life.on_death.append(self._server_died)
        self.checks.awake_since = self.loop.now

    def _server_died(self) -> None:
        self.trace("server dead")
        self.checks.read_again()
        pause_s = 0.5 if self.peace else self.rng.choice((0.3, 2.0, 15.0, self.rng.uniform(10, 120)))
        self.god.later(pause_s, self.start_server)

    def start_agent(self, host: Host) -> None:
        known = self.agents.get(host.name)
        if known is not None and known.life.alive:
            return
        self.trace("agent starts", host.name)
        agent = self.agents[host.name] = SimAgent(host, self.network, self.runners[host.name], self.rng)
        agent.life.on_death.append(lambda: self._agent_died(host))

    def _agent_died(self, host: Host) -> None:
        self.trace("agent dead", host.name)
        pause_s = 0.3 if self.peace else self.rng.choice((0.2, 2.0, 20.0, self.rng.uniform(10, 400)))
        self.god.later(pause_s, self.start_agent, host)

    def reboot(self, host: Host) -> None:
        agent = self.agents[host.name]
        agent.life.kill()
        host.power_cut()

    def clone(self, host: Host, lasts_s: float) -> None:
        """Another host dials with this one's credential; its state directory is its own."""
        other = Host(self.loop, self.truth, self.rng, f"{host.name}-clone")
        runner = self.runners[host.name]
        theirs = Runner(
            id=runner.id, name=runner.name, slots=runner.slots, created_at=EPOCH,
            state_directory_id=f"directory-of-clone-{self.rng.getrandbits(32)}",
        )  # fmt: skip
        agent = SimAgent(other, self.network, theirs, self.rng, clone=True)
        self.god.later(lasts_s, self._end_clone, other, agent)

    def _end_clone(self, host: Host, agent: SimAgent) -> None:
        agent.life.kill()
        host.power_cut()

    # -- people

    def call(self, what: Callable[[SimServer], Coroutine[Any, Any, Any]]) -> None:
        """Somebody calls the server, if it serves."""
        server = self.server
        if server is not None and server.life.alive and server.serving:
            self.loop.spawn(server.life, what(server), "call")

    def _wish(self) -> None:
        if self.peace:
            return
        wish = Wish(len(self.wishes), load.spec(self.rng, self.timing.heartbeat_shortest_s))
        self.wishes.append(wish)
        self._ask(wish)
        if self.rng.random() < 0.3:
            self.god.later(self.rng.choice((0.0, 0.05, 5.0, 60.0)) + self.rng.random(), self._cancel, wish, 0)
        self.god.later(self.rng.expovariate(1.0 / self._wish_rate_s), self._wish)

    def _ask(self, wish: Wish) -> None:
        if wish.run_id and self.rng.random() < 0.9:
            return
        self.call(lambda server: self._create(server, wish))
        self.god.later(3.0, self._ask, wish)

    async def _create(self, server: SimServer, wish: Wish) -> None:
        deadline = None
        if wish.number % 9 == 4:
            deadline = EPOCH.fromtimestamp(EPOCH.timestamp() + 30 * HOUR_S, EPOCH.tzinfo)
        new = runs.NewRun(project_id=self.project_id, spec=wish.spec, options=RunOptions(deadline=deadline))
        run: Run = await runs.create(server.house, Caller(principal=ANN, request_id=f"wish-{wish.number}"), new)
        if wish.run_id and wish.run_id != run.id:
            self.checks.violate(f"I8 one request made two runs: {wish.run_id} and {run.id}")
        if not wish.run_id:
            self.trace("created", run.id[-6:], f"wish {wish.number}")
        wish.run_id = run.id

    def _cancel(self, wish: Wish, tries: int) -> None:
        if wish.cancelled or tries > 20:
            return
        if wish.run_id:
            force = self.rng.random() < 0.2
            self.call(lambda server: self._say_cancel(server, wish, force))
        self.god.later(4.0, self._cancel, wish, tries + 1)

    async def _say_cancel(self, server: SimServer, wish: Wish, force: bool) -> None:
        try:
            run = await runs.cancel(server.house, Caller(principal=ANN), RunId(wish.run_id), CancelOrder(), force=force)
        except BanksmanError:
            wish.cancelled = True
            return
        wish.cancelled = True
        self.trace("cancel answered", wish.run_id[-6:], "by force" if force else "")
        self.truth.cancelled_at.setdefault(wish.run_id, run.lease_epoch)

    def drain(self, host: Host, lasts_s: float) -> None:
        runner_id = self.runners[host.name].id
        self.call(lambda server: _say(server, runners.drain, runner_id, Drain()))
        self.god.later(lasts_s, self._resume, host)

    def _resume(self, host: Host) -> None:
        runner_id = self.runners[host.name].id
        self.call(lambda server: _say(server, runners.resume, runner_id, Resume()))

    def _acked(self, said: Any) -> None:
        offset = getattr(said, "committed_offset", None)
        key = AttemptKey(run_id=RunId(said.key.run_id), lease_epoch=said.key.lease_epoch)
        self.checks.heard_ack(key, said.resume_offset if offset is None else offset)

    # -- the whole story

    def live(self) -> None:
        """Trouble for the given hours, then peace until all is settled."""
        collects = gc.isenabled()
        gc.disable()
        try:
            self.loop.run_until(self.loop.now + self.hours * HOUR_S)
            self.calm()
            end = self.loop.now + SETTLE_S
            while self.loop.now < end and not self.settled():
                self.loop.run_until(self.loop.now + 30.0)
            self.judge()
        finally:
            self.loop.forget()
            self.store.close()
            if collects:
                gc.enable()
                gc.collect()

    def calm(self) -> None:
        """No more faults: all is mended, thawed and started again."""
        self.trace("peace")
        self.peace, self.faults.active = True, False
        self.logs.broken = None
        self.network.heal()
        for host in self.hosts:
            host.full, host.doom = False, 0.0
            for shim in list(host.shims.values()):
                shim.life._fuse = None
                shim.thaw()
            self._soothe(None if host.fork_server is None else host.fork_server)
            self._soothe(self.agents[host.name].life)
            self.god.later(0.0, self.start_agent, host)
            self.god.later(5.0, self._resume, host)
            self.god.later(60.0, self._resume, host)
        if self.server is not None:
            self._soothe(self.server.life)
        self.god.later(0.0, self.start_server)

    @staticmethod
    def _soothe(life: Any) -> None:
        if life is not None:
            life._fuse = None
            if life.frozen:
                life.thaw()

    def settled(self) -> bool:
        """Every run is settled, nobody holds anything, nothing lives."""
        if any(not wish.run_id for wish in self.wishes):
            return False
        open_runs = self._open_runs()
        held = any(agent.state.held for agent in self.agents.values() if agent.life.alive and agent.ready)
        return not open_runs and not held and not any(host.keeps() or host.shims for host in self.hosts)

    def _open_runs(self) -> list[tuple[str, str, int]]:
        """Runs that are not settled and could be."""
        rows = self.store.driver.execute(OPEN_RUNS).fetchall()
        over = {str(state) for state in RUN_TERMINAL}
        return [row[:3] for row in rows if not (row[3] and (row[1] in over or row[0] in self._patient()))]

    def _patient(self) -> set[str]:
        """Runs that no loss clock ends: with a clone that has gone they wait for their operator, cancelled or not."""
        return {wish.run_id for wish in self.wishes if wish.spec.loss.never}

    def judge(self) -> None:
        """The end: what must be true of every run, whatever happened to it."""
        checks = self.checks
        checks.read_again()
        if not self.settled():
            self._say_what_hangs()
        for text in self.loop.errors:
            checks.violate(f"a task failed: {text}")
        waiting = {row[0] for row in self.store.driver.execute(OPEN_RUNS) if row[3]} & self._patient()
        for run_id in self.truth.cancelled_at:
            row = self.store.driver.execute("SELECT state FROM runs WHERE id = ?", (run_id,)).fetchone()
            if run_id in waiting and row == ("CANCELLING",):
                continue
            if row is None or row[0] != "CANCELLED":
                checks.violate(f"I4 run {run_id[-6:]}: its cancel was answered, it ended {row}")
        over = ", ".join(f"'{state}'" for state in sorted(RUN_TERMINAL))
        query = f"""SELECT r.id, r.state, r.reason, (SELECT COUNT(*) FROM run_events e WHERE e.run_id = r.id
            AND e.type IN ({over})) FROM runs r WHERE r.state IN ({over})"""
        for run_id, state, reason, events in self.store.driver.execute(query):
            if events != 1 or not reason:
                checks.violate(f"I3 run {run_id[-6:]} is {state} with reason {reason!r} and {events} terminal events")
        (count,) = self.store.driver.execute("SELECT COUNT(*) FROM runs").fetchone()
        if count != sum(1 for wish in self.wishes if wish.run_id):
            checks.violate(f"I8 {len(self.wishes)} requests made {count} runs")

    def _say_what_hangs(self) -> None:
        for run_id, state, epoch in self._open_runs():
            said = self.store.driver.execute(
                "SELECT lease_epoch, state, exit_stored, log_sealed_at IS NOT NULL, runner_id FROM attempts "
                "WHERE run_id = ? ORDER BY lease_epoch", (run_id,)
            ).fetchall()  # fmt: skip
            self.checks.violate(
                f"L run {run_id[-6:]} does not settle: {state} at {epoch & 0xFFFF}; attempts {said[-3:]}"
            )
        for agent in self.agents.values():
            for held in agent.state.held.values() if agent.life.alive and agent.ready else ():
                self.checks.violate(f"L {agent.host.name} holds {held.key.run_id[-6:]} for ever: {held.phase}")
        for host in self.hosts:
            for key, directory in host.keeps():
                self.checks.violate(f"L {host.name} keeps {key.run_id[-6:]}: {sorted(directory.files)}")


async def _say(server: SimServer, verb: Callable[..., Any], runner_id: RunnerId, message: ToRunner) -> None:
    """An operator's order, and the word to the runner behind it."""
    try:
        await verb(server.house, runner_id)
    except BanksmanError:
        return
    server.sessions.post(runner_id, message)
