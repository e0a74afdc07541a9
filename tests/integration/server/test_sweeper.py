"""The one clock of the server: it notices steps and pauses, and one bad tick does not stop it."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.api.convert import ProtoSpecCodec
from control_plane.api.reception import Reception
from control_plane.auth.tokens import TokenKind, digest, mint
from control_plane.auth.vault import FileVault
from control_plane.dispatch.dispatcher import Dispatcher
from control_plane.dispatch.sessions import LiveSession, Sessions
from control_plane.dispatch.sightings import Sightings
from control_plane.dispatch.sweeper import Sweeper
from control_plane.domain.ids import Holder, RunnerId
from control_plane.domain.session import Hello
from control_plane.lifecycle import clocks, housekeeping, principals, runners, tokens
from control_plane.lifecycle.house import House
from control_plane.logs.files import FileLogStore
from control_plane.logs.ingest import Ingest
from control_plane.logs.ledger import HouseLedger
from control_plane.storage import reads
from control_plane.storage.database import Database
from control_plane.watch import Watch
from tests.fakes.clock import FakeClock

HELLO = Hello(protocol_min=1, protocol_max=1, state_directory_id="d", slots=1)


class Rooms:
    """A house with a sweeper that is ticked by hand."""

    def __init__(self, state):
        self.clock = FakeClock()
        self.sessions = Sessions(most=10)
        self.steps: list[float] = []
        self.house = House(
            database=Database.open(state, self.clock),
            clock=self.clock,
            watch=Watch(),
            codec=ProtoSpecCodec(),
            vault=FileVault.at(state / "secret.key"),
            post=self.sessions.post,
        )
        self.sweeper = Sweeper(self.house, self.sessions, stepped=self.stepped)

    async def stepped(self, step_s):
        self.steps.append(step_s)

    async def pass_time(self, seconds):
        for _ in range(seconds):
            self.clock.advance(1.0)
            await self.sweeper.tick()


@pytest.fixture
async def rooms(tmp_path):
    made = Rooms(tmp_path / "state")
    await housekeeping.prepare(made.house)
    yield made
    await made.house.database.close()


def session(ends):
    made = LiveSession(
        Holder(runner_id=RunnerId("r"), state_directory_id="d"),
        put=lambda message, log_lane: True,
        end=lambda goodbye: ends.append(goodbye.reason),
    )
    made.epoch, made.welcomed = 1, True
    return made


async def test_a_step_of_the_wall_clock_is_told_once_with_its_size(rooms):
    await rooms.pass_time(3)
    assert rooms.steps == []
    rooms.clock.step_wall(-3600)
    await rooms.pass_time(3)
    assert rooms.steps == [pytest.approx(-3600)]
    rooms.clock.step_wall(0.9)
    await rooms.pass_time(1)
    rooms.clock.step_wall(0.9)
    await rooms.pass_time(1)
    assert rooms.steps[1:] == [pytest.approx(1.8)]


async def test_a_silent_runner_is_away_after_its_lease_but_not_after_our_pause(rooms):
    ends = []
    made = session(ends)
    rooms.sessions.open(made)
    made.heard_s = rooms.clock.monotonic_s()
    await rooms.pass_time(10)
    rooms.clock.advance(60)
    await rooms.sweeper.tick()
    assert ends == []
    await rooms.pass_time(15)
    assert ends == []
    await rooms.pass_time(1)
    assert ends == ["SILENT"]


async def test_one_bad_tick_does_not_stop_the_clocks(rooms):
    async def broken(step_s):
        raise RuntimeError("bug")

    rooms.sweeper._stepped = broken
    rooms.clock.step_wall(100)
    await rooms.pass_time(2)
    rooms.sweeper._stepped = rooms.stepped
    await rooms.pass_time(1)
    assert rooms.steps == [pytest.approx(100)]


async def enrolled(rooms, name="host"):
    """A new runner, away."""
    who = await reads_admin(rooms)
    secret = digest(mint(TokenKind.JOIN, name.encode().ljust(32, b"\0")))
    await runners.create_join_token(rooms.house, who, runners.NewJoinToken(secret_digest=secret))
    asked = runners.Enrolment(join_digest=secret, name=name, public_key=bytes(32))
    return await runners.enrol(rooms.house, asked)


async def test_a_runner_that_leaves_while_its_hello_is_stored_is_away(rooms, tmp_path):
    runner = await enrolled(rooms)
    store = FileLogStore(tmp_path / "logs")
    ingest = Ingest(ledger=HouseLedger(rooms.house), store=store, watch=rooms.house.watch)
    reception = Reception(rooms.house, rooms.sessions, ingest, Sightings())

    def arrive():
        made = session([])
        made.holder, made.epoch, made.welcomed = Holder(runner_id=runner.id, state_directory_id="d"), 0, False
        return made, asyncio.create_task(reception.greet(made, HELLO, 1))

    async def stored():
        return await rooms.house.database.read(lambda connection: reads.runner(connection, runner.id))

    leaving, greeting = arrive()
    await asyncio.sleep(0)
    greeting.cancel()
    await asyncio.wait({greeting})
    await reception.left(leaving)
    assert ((await stored()).session_epoch, (await stored()).connected) == (1, False)

    leaving, greeting = arrive()
    newer, arriving = arrive()
    await asyncio.sleep(0)
    greeting.cancel()
    await asyncio.wait({greeting})
    await reception.left(leaving)
    await arriving
    rooms.sessions.owe(runner.id, None)
    await rooms.pass_time(1)
    assert rooms.sessions.get(runner.id) is newer
    assert ((await stored()).session_epoch, (await stored()).connected) == (3, True)
    store.close()


async def test_the_end_of_a_session_is_stored_later_if_it_could_not_be_at_once(rooms):
    runner = await enrolled(rooms)
    connected = await runners.connect(rooms.house, runner.id, HELLO, credential_generation=1)
    assert connected.connected
    rooms.sessions.owe(runner.id, connected.session_epoch)
    await rooms.pass_time(1)
    stored = await rooms.house.database.read(lambda connection: reads.runner(connection, runner.id))
    assert not stored.connected
    assert rooms.sessions.take_owed() == {}


async def test_an_end_that_cannot_be_stored_keeps_neither_another_nor_the_clocks_waiting(rooms, monkeypatch):
    stuck, other = await enrolled(rooms), await enrolled(rooms, "another")
    for runner in (stuck, other):
        connected = await runners.connect(rooms.house, runner.id, HELLO, credential_generation=1)
        rooms.sessions.owe(runner.id, connected.session_epoch)
    real, rung = runners.disconnect, []

    async def failing(house, runner_id, epoch):
        if runner_id == stuck.id:
            raise LookupError("a mistake")
        await real(house, runner_id, epoch)

    async def tick(house, period_s):
        rung.append(period_s)

    monkeypatch.setattr(runners, "disconnect", failing)
    monkeypatch.setattr(clocks, "tick", tick)
    await rooms.pass_time(1)
    stored = await rooms.house.database.read(lambda connection: reads.runner(connection, other.id))
    assert (stored.connected, len(rung)) == (False, 1)
    assert rooms.sessions.take_owed() == {stuck.id: 1}


async def reads_admin(rooms):
    """The admin as a caller."""
    token = digest(mint(TokenKind.USER, bytes(32)))
    await principals.ensure_admin(rooms.house, token, "test")
    return await tokens.authenticate(rooms.house, token)


async def test_a_bad_round_of_dispatch_is_survived(rooms):
    dispatcher = Dispatcher(rooms.house, rooms.sessions)
    assert await dispatcher.round() > 0
