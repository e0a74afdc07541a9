"""A control plane of the simulation: the product's own rooms; only streams, disks and latencies are played."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from control_plane.api.convert import ProtoSpecCodec
from control_plane.api.reception import Reception
from control_plane.api.runner_session import _joined
from control_plane.dispatch.dispatcher import AFTER_TROUBLE_S, Dispatcher
from control_plane.dispatch.sessions import LiveSession, Sessions
from control_plane.dispatch.sightings import Sightings
from control_plane.dispatch.sweeper import PERIOD_S, Sweeper
from control_plane.dispatch.turns import Turns
from control_plane.domain.errors import BanksmanError
from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.log import LogRecord
from control_plane.domain.session import FromRunner, Goodbye, Hello, ToRunner
from control_plane.domain.timing import Timing
from control_plane.lifecycle import clocks, housekeeping
from control_plane.lifecycle.house import House
from control_plane.logs.ingest import Ingest
from control_plane.logs.ledger import HouseLedger
from control_plane.watch import Watch
from tests.fakes.log_store import MemoryLogStore
from tests.fakes.world import PlainVault
from tests.simulation.clocks import ServerClock
from tests.simulation.database import SimDatabase, Store, Watcher
from tests.simulation.loop import Life, SimLoop, where

if TYPE_CHECKING:
    from tests.simulation.network import Network, Wire


class LogFiles(MemoryLogStore):
    """Logs on the server's disk. What was not synced does not outlive a crash. `life`: whose hands it is in."""

    life: Life | None = None

    def append(self, key: AttemptKey, offset: int, records: Sequence[LogRecord]) -> None:
        self._point("log: before append")
        super().append(key, offset, records)

    def sync(self, keys: Iterable[AttemptKey]) -> None:
        self._point("log: before sync")
        super().sync(keys)
        self._point("log: after sync")

    def crashed(self) -> None:
        """The server that wrote is gone."""
        self.rollback(list(self._logs))

    def _point(self, name: str) -> None:
        if self.life is not None:
            self.life.point(name)


class _Tasks:
    """What a task group is to those who only start tasks in it."""

    def __init__(self, server: SimServer) -> None:
        self._server = server

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Any:
        return self._server.loop.spawn(self._server.life, coro, name or "")


class SimServer:
    """One life of the control plane."""

    def __init__(
        self, *, loop: SimLoop, network: Network, store: Store, logs: LogFiles, clock: ServerClock, timing: Timing,
        rng: random.Random, watcher: Watcher, stepped: Callable[[float], None],
    ) -> None:  # fmt: skip
        self.loop, self.network, self.store, self.logs, self.clock = loop, network, store, logs, clock
        self.rng, self._stepped = rng, stepped
        self.life = Life(loop, "server")
        self.life.on_death.append(self._died)
        self.sessions = Sessions(most=1_000)
        self.database = SimDatabase(store, self.life, self._latency_s, watcher, clock.monotonic_s)
        self.house = House(
            database=self.database,
            clock=clock,
            watch=Watch(),
            codec=ProtoSpecCodec(),
            vault=PlainVault(),
            timing=timing,
            post=self.sessions.post,
        )
        logs.life = self.life
        self.ingest = Ingest(ledger=HouseLedger(self.house), store=logs, watch=self.house.watch)
        self.reception = Reception(self.house, self.sessions, self.ingest, Sightings())
        self.dispatcher = Dispatcher(self.house, self.sessions)
        self.sweeper: Sweeper | None = None
        self.tasks = _Tasks(self)
        self.serving = False
        loop.spawn(self.life, self._run(), "server")

    def _latency_s(self) -> float:
        return self.rng.uniform(0.0002, 0.004) if self.rng.random() < 0.98 else self.rng.uniform(0.0, 1.5)

    async def _run(self) -> None:
        """Start in the product's order."""
        await housekeeping.prepare(self.house)
        self.sweeper = Sweeper(self.house, self.sessions, stepped=self._step)
        await clocks.load_clocks(self.house)
        self.loop.spawn(self.life, self.ingest.run(), "ingest")
        self.loop.spawn(self.life, self._dispatch(), "dispatcher")
        self.life.later(PERIOD_S, self._second, self.loop.now + PERIOD_S)
        self.serving = True
        self.network.server = self

    async def _dispatch(self) -> None:
        """The dispatcher's loop; nobody has to look again while nothing is queued and nothing was said."""
        with self.house.watch.subscribe("queue") as wakeups, self.dispatcher.following():
            while True:
                try:
                    pause_s: float | None = await self.dispatcher.round()
                except Exception as error:  # noqa: BLE001 - as the product's loop does it
                    self.loop.errors.append(f"a round of dispatch failed: {error!r} at {where(error)}")
                    pause_s = AFTER_TROUBLE_S
                if not self._waiting():
                    pause_s = None
                await wakeups.wait(pause_s)

    def _waiting(self) -> bool:
        return bool(self.store.driver.execute("SELECT 1 FROM runs WHERE state = 'QUEUED' LIMIT 1").fetchone())

    async def _step(self, seconds: float) -> None:
        self._stepped(seconds)

    # -- the second hand

    def _second(self, due: float) -> None:
        """The sweeper's tick. A tick that would do nothing is as good as done."""
        sweeper, house = self.sweeper, self.house
        assert sweeper is not None
        late_s = self.loop.now - due
        if late_s < 0.5 and not self._anything_due():
            now_s = self.clock.monotonic_s()
            house.clocks.last_tick_s = sweeper._last_s = now_s
            self.life.later(PERIOD_S, self._second, self.loop.now + PERIOD_S)
            return
        self.loop.spawn(self.life, self._tick(), "sweeper")

    async def _tick(self) -> None:
        assert self.sweeper is not None
        await self.sweeper.tick()
        self.life.later(PERIOD_S, self._second, self.loop.now + PERIOD_S)

    def _anything_due(self) -> bool:
        assert self.sweeper is not None
        sweeper, now_s = self.sweeper, self.clock.monotonic_s()
        watched = self.house.clocks
        if any(watched._ring(key, clock, now_s) for key, clock in watched._attempts.items()):
            return True
        lease_s = self.house.timing.lease_s(len(self.sessions))
        if any(now_s - session.heard_s > lease_s for session in self.sessions.ready()):
            return True
        if self.sessions._owed or abs(sweeper._difference_s() - sweeper._base_s) > 0.5:
            return True
        due_at = self.database.next_due()
        return due_at is not None and due_at <= self.clock.now().timestamp() * 1e6

    # -- streams

    def serve(self, wire: Wire) -> None:
        """A runner has connected."""
        wire.inbox = asyncio.Queue()
        self.loop.spawn(self.life, self._session(wire), "session")

    def take(self, wire: Wire, message: FromRunner | None) -> None:
        """A message has arrived; None: the stream is over."""
        if wire.inbox is not None:
            wire.inbox.put_nowait(message)

    async def _session(self, wire: Wire) -> None:
        runner = wire.agent.runner
        session: LiveSession | None = None

        def put(message: ToRunner, _log_lane: bool) -> bool:
            self.life.strike(f"send:{type(message).__name__}")
            if self.life.alive:
                wire.to_agent(message)
            return True

        def end(goodbye: Goodbye) -> None:
            if self.life.alive:
                wire.to_agent(goodbye)
                wire.inbox.put_nowait(None)

        try:
            hello = await self._hello(wire)
            if hello is not None:
                holder = Holder(runner_id=runner.id, state_directory_id=hello.state_directory_id)
                session = LiveSession(holder, put=put, end=end)
                turns = Turns(self.tasks, name="runner")  # type: ignore[arg-type]
                await self.reception.greet(session, hello, runner.credential_generation)
                while (message := await wire.inbox.get()) is not None:
                    await self.reception.take(session, message, turns)
        except (BanksmanError, TimeoutError):
            pass
        if session is not None:
            await self.reception.left(session)
        wire.hang_up_by_server()

    async def _hello(self, wire: Wire) -> Hello | None:
        pages: list[Hello] = []
        async with asyncio.timeout(10.0):
            while isinstance(message := await wire.inbox.get(), Hello):
                pages.append(message)
                if not message.more:
                    return _joined(pages)
        return None

    # -- ends

    def _died(self) -> None:
        if self.network.server is self:
            self.network.server = None
        self.logs.life = None
        self.logs.crashed()
        self.network.server_died(self)

    def say_goodbye(self) -> None:
        """A stop in good order: runners are told when to come back, then the process goes."""
        self.sessions.goodbye_all(reconnect_after_s=1.0, jitter_s=5.0)
        self.life.later(0.2, self.life.kill)
