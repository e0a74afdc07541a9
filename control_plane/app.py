"""The composition root: builds every room, wires them, starts them in order and stops them in order."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import TypeVar

from control_plane import telemetry
from control_plane.api.convert import ProtoSpecCodec
from control_plane.api.desk import Desk
from control_plane.api.interceptors import Gate
from control_plane.api.reception import Reception
from control_plane.api.server import Door, PortTaken
from control_plane.api.services import add_services
from control_plane.api.trouble import Trouble
from control_plane.api.views import Views
from control_plane.api.visits import Visits
from control_plane.api.watching import Watching
from control_plane.artifacts.files import ArtifactFiles
from control_plane.artifacts.housekeeping import ArtifactHousekeeping
from control_plane.artifacts.intake import Intake
from control_plane.auth import admin_file
from control_plane.auth.audit_key import AuditKey
from control_plane.auth.authenticate import Authenticator
from control_plane.auth.credentials import CredentialPress
from control_plane.auth.keyfile import KEY_BYTES, read_or_make_key
from control_plane.auth.tokens import ENTROPY_BYTES, TokenKind, digest, mint
from control_plane.auth.vault import FileVault, VaultKeyError
from control_plane.clock import Clock, SystemClock
from control_plane.config import Settings
from control_plane.dispatch.dispatcher import Dispatcher
from control_plane.dispatch.sessions import Sessions
from control_plane.dispatch.sightings import Sightings
from control_plane.dispatch.sweeper import Sweeper
from control_plane.domain.artifact import ArtifactLimits
from control_plane.domain.extras import Extras
from control_plane.lifecycle import clocks, housekeeping, principals, restores, tokens
from control_plane.lifecycle.audit import Witness
from control_plane.lifecycle.audit_chain import SIGN_EVERY_S, Chain
from control_plane.lifecycle.denials import Denials
from control_plane.lifecycle.house import House
from control_plane.logs.excerpts import excerpt
from control_plane.logs.files import FileLogStore
from control_plane.logs.housekeeping import LogHousekeeping, LogRetention
from control_plane.logs.ingest import Ingest
from control_plane.logs.ledger import HouseLedger
from control_plane.logs.purger import Purger
from control_plane.logs.tail import Tail
from control_plane.notifications.courier import Courier
from control_plane.notifications.rules import Rules
from control_plane.notifications.senders import Senders
from control_plane.reports.reporter import Reporter
from control_plane.scheduling.scheduler import Chore, Scheduler
from control_plane.storage.database import DATABASE_NAME, CannotOpen, Database
from control_plane.watch import Watch

log = telemetry.logger("app")

T = TypeVar("T")

RECONNECT_AFTER_S = 1.0
RECONNECT_JITTER_S = 5.0
# New objects, young collections, middle collections: before each next larger collection.
COLLECT_AFTER = (10_000, 25, 25)
RUNNER_KEY = "runner.key"
SECRET_KEY = "secret.key"
AUDIT_KEY = "audit.key"
TOKEN_NOTE = "made by the server for the CLI on this host"


class CannotStart(Exception):
    """Why the server cannot serve, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Everything that runs while the server serves."""

    house: House
    sessions: Sessions
    dispatcher: Dispatcher
    ingest: Ingest
    tail: Tail
    store: FileLogStore
    scheduler: Scheduler
    purger: Purger
    courier: Courier
    reporter: Reporter
    desk: Desk
    gate: Gate
    door: Door


async def restored(settings: Settings, *, above: int = 0, clock: Clock | None = None) -> restores.Raised:
    """The database of this state directory was put back from a backup; no server may run on it.

    Raises CannotStart (in use, unreadable), ValueError when there is no generation left above `above`.
    """
    clock = clock or SystemClock()
    if not (settings.state_path / DATABASE_NAME).exists():
        raise CannotStart(f"there is no database in {settings.state_dir}")
    database = _open_database(settings, clock)
    try:
        return await restores.raise_generation(database, clock, above=above)
    finally:
        await database.close()


async def serve(
    settings: Settings, *, clock: Clock | None = None, served: Callable[[str, asyncio.Event], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        served: for who runs it inside another program: called with the URL, once the server answers, and the event
            that ends it; signals are left alone then. By default a line is written to standard error.
    Raises:
        CannotStart: in an exception group or by itself; the state directory is in use, the port is taken, …
    """
    clock = clock or SystemClock()
    stop = asyncio.Event()
    if served is None:
        telemetry.configure(level=settings.log_level, form=settings.log_format)
        _on_signals(stop)
    async with AsyncExitStack() as stack:
        database = _open_database(settings, clock)
        stack.push_async_callback(database.close)
        rooms = await _build(settings, clock, database)
        stack.callback(rooms.store.close)
        stack.callback(rooms.tail.close)
        stack.callback(rooms.desk.intake.shut)
        if served is None:
            _rest_collector()
        await _run(settings, rooms, stop, served or _say)
    log.info("stopped")
    if served is None:
        _ignore_signals()


def _open_database(settings: Settings, clock: Clock) -> Database:
    try:
        return Database.open(settings.state_path, clock)
    except CannotOpen as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        raise CannotStart(f"the state directory {settings.state_dir} cannot be used: {error.strerror}") from error


async def _build(settings: Settings, clock: Clock, database: Database) -> Rooms:
    state, watch, sessions = settings.state_path, Watch(), Sessions(most=settings.max_sessions)
    house = _house(settings, clock, database, watch, sessions)
    instance = await housekeeping.prepare(house)
    key = _keyed(lambda: AuditKey.at(state / AUDIT_KEY, clock.token_bytes(KEY_BYTES)))
    chain = Chain(name=instance.instance_id, database=database, clock=clock, key=key)
    database.witness = Witness(chain.name, clock)
    denials = Denials(database, chain.name, clock)
    ledger, store = HouseLedger(house), FileLogStore(state / "logs", reserve_bytes=settings.disk_reserve_bytes)
    ingest = Ingest(ledger=ledger, store=store, watch=watch)
    tail = Tail(ledger=ledger, store=store, watch=watch, clock=clock)
    dispatcher = Dispatcher(house, sessions)
    press = _keyed(lambda: _press(settings, clock))
    authenticator = Authenticator(house, press)
    sightings = Sightings()
    intake = _intake(settings, house)
    chores = (*_chores(settings, house, ingest, ledger, store), *_artifact_chores(settings, intake))
    views = Views(house, dispatcher.waiting_because, Trouble(house, sessions, sightings))
    desk = Desk(
        house=house,
        settings=settings,
        sessions=sessions,
        sightings=sightings,
        reception=Reception(house, sessions, ingest, sightings),
        views=views,
        watching=Watching(house, views),
        authenticator=authenticator,
        press=press,
        tail=tail,
        intake=intake,
        chain=chain,
        denials=denials,
        collectors=tuple(chore.run for chore in chores if chore.name in OLD),
        version=version("banksman"),
        instance_id=instance.instance_id,
        started_at=clock.now(),
    )
    gate = Gate(authenticator, clock, Visits(most_each=settings.max_streams_each), denials)
    door = Door(gate)
    add_services(door, desk)
    sign = Chore(name="sign the audit trail", every_s=SIGN_EVERY_S, run=chain.keep_signed)
    return Rooms(
        house=house,
        sessions=sessions,
        dispatcher=dispatcher,
        ingest=ingest,
        tail=tail,
        store=store,
        scheduler=Scheduler(house, (*chores, sign)),
        courier=Courier(house, Senders(_rules(settings), f"banksman/{version('banksman')}")),
        reporter=Reporter(house, partial(excerpt, store), fonts_named=settings.report_fonts),
        purger=_purger(house, store, ingest, intake),
        desk=desk,
        gate=gate,
        door=door,
    )


def _house(settings: Settings, clock: Clock, database: Database, watch: Watch, sessions: Sessions) -> House:
    return House(
        database=database,
        clock=clock,
        watch=watch,
        codec=ProtoSpecCodec(),
        vault=_keyed(lambda: FileVault.at(settings.state_path / SECRET_KEY)),
        timing=settings.timing(),
        post=sessions.post,
        extras=Extras(pdf=find_spec("fpdf") is not None, channels=find_spec("apprise") is not None),
    )


def _purger(house: House, store: FileLogStore, ingest: Ingest, intake: Intake) -> Purger:
    give_up = partial(ingest.seal_incomplete, why="the run was deleted")
    return Purger(house=house, store=store, give_up=give_up, removers=(intake.remove_runs,))


OLD = (OLD_ROWS, OLD_LOGS, OLD_ARTIFACTS) = ("remove old rows", "remove old logs", "remove old artifacts")


def _chores(
    settings: Settings, house: House, ingest: Ingest, ledger: HouseLedger, store: FileLogStore
) -> tuple[Chore, ...]:
    """What keeps the state directory from growing for ever."""
    retention = LogRetention(keep_s=settings.log_keep_s, keep_bytes=settings.log_keep_bytes)
    logs = LogHousekeeping(
        ledger=ledger,
        store=store,
        take_sealed=ingest.take_sealed,
        give_up=ingest.seal_incomplete,
        retention=retention,
    )
    keep = housekeeping.Keep(request_ids_s=house.timing.request_id_kept_s, runs_s=settings.run_keep_s)
    return (
        Chore(name="compress logs", every_s=30.0, run=logs.compress),
        Chore(name=OLD_LOGS, every_s=600.0, run=logs.remove_old),
        Chore(name="remember how far the database is", every_s=30.0, run=partial(restores.keep, house)),
        Chore(name=OLD_ROWS, every_s=600.0, run=partial(housekeeping.sweep, house, keep)),
    )


def _intake(settings: Settings, house: House) -> Intake:
    files = ArtifactFiles(settings.state_path / "artifacts", reserve_bytes=settings.disk_reserve_bytes)
    limits = ArtifactLimits(
        file_bytes=settings.artifact_file_bytes,
        total_bytes=settings.artifact_run_bytes,
        files=settings.artifact_files,
    )
    return Intake(house, files, limits)


def _artifact_chores(settings: Settings, intake: Intake) -> tuple[Chore, ...]:
    kept = ArtifactHousekeeping(intake=intake, keep_s=settings.artifact_keep_s)
    return (
        Chore(name=OLD_ARTIFACTS, every_s=600.0, run=kept.remove_old),
        Chore(name="wait for artifacts no longer", every_s=10.0, run=intake.expire),
    )


def _rules(settings: Settings) -> Rules:
    return Rules.of(
        http=settings.notify_http,
        ports_text=settings.notify_ports,
        networks_text=settings.notify_networks,
        channels_text=settings.notify_channels,
        first_wait_s=settings.notify_first_wait_s,
    )


def _keyed(make: Callable[[], T]) -> T:
    """Something that needs a key of the state directory."""
    try:
        return make()
    except (ValueError, VaultKeyError) as error:
        raise CannotStart(str(error)) from error


def _press(settings: Settings, clock: Clock) -> CredentialPress:
    secret = read_or_make_key(settings.state_path / RUNNER_KEY, clock.token_bytes(KEY_BYTES))
    return CredentialPress(secret, lifetime_s=settings.credential_lifetime_s)


async def _run(
    settings: Settings, rooms: Rooms, stop: asyncio.Event, served: Callable[[str, asyncio.Event], None]
) -> None:
    """Start in order, wait, stop in reverse: nobody new, goodbye to runners, then the loops, then the logs."""
    sweeper = Sweeper(rooms.house, rooms.sessions, stepped=rooms.scheduler.rearm)
    live = await clocks.load_clocks(rooms.house)
    async with asyncio.TaskGroup() as group:
        group.create_task(rooms.ingest.run(), name="log ingest")
        loops = [
            group.create_task(rooms.dispatcher.run(), name="dispatcher"),
            group.create_task(sweeper.run(), name="sweeper"),
            group.create_task(rooms.scheduler.run(), name="scheduler"),
            group.create_task(rooms.purger.run(), name="purger"),
            group.create_task(rooms.courier.run(), name="notifications"),
            group.create_task(rooms.reporter.run(), name="reports"),
            group.create_task(_watch_over(rooms), name="open calls"),
        ]
        try:
            url = await _open_door(settings, rooms)
            log.info("serving", url=url, state=settings.state_dir, live_attempts=live)
            served(url, stop)
            await stop.wait()
        finally:
            await _close_door(settings, rooms)
            await rooms.desk.denials.flush(final=True)
            await rooms.desk.chain.keep_signed()
            for loop in loops:
                loop.cancel()
            rooms.ingest.close()
            await restores.remember(rooms.house.database)


async def _watch_over(rooms: Rooms) -> None:
    with rooms.house.watch.subscribe(tokens.TOPIC) as wakeups:
        await rooms.gate.watch_over(wakeups)


async def _open_door(settings: Settings, rooms: Rooms) -> str:
    host, port = settings.host_port
    try:
        port = await rooms.door.open(host, port)
    except PortTaken as error:
        raise CannotStart(str(error)) from error
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
    await _write_admin_file(settings, rooms.house, url)
    return url


async def _write_admin_file(settings: Settings, house: House, url: str) -> None:
    """The token of an earlier start, while it opens anything; else a new one, so that this host is not locked out."""
    token = admin_file.stored_token(settings.state_path)
    if token is not None:
        known = await principals.ensure_admin(house, digest(token), TOKEN_NOTE)
        token = token if tokens.is_usable(known, house.clock.now()) else None
    if token is None:
        token = mint(TokenKind.USER, house.clock.token_bytes(ENTROPY_BYTES))
        await principals.ensure_admin(house, digest(token), TOKEN_NOTE)
    admin_file.write(settings.state_path, url=url, token=token)


async def _close_door(settings: Settings, rooms: Rooms) -> None:
    log.info("stopping")
    await rooms.door.refuse()
    rooms.sessions.goodbye_all(reconnect_after_s=RECONNECT_AFTER_S, jitter_s=RECONNECT_JITTER_S)
    await rooms.door.close(settings.stop_grace_s)


def _rest_collector() -> None:
    """What is there now stays: the garbage collector need not look through it, nor so often through all sessions.

    With a thousand runners that come at once it took a sixth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _ignore_signals() -> None:
    """For good: a second one, while the program ends, must not make a kill of a clean stop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _say(url: str, stop: asyncio.Event) -> None:
    sys.stderr.write(f"banksman-server serves {url}\n")
    sys.stderr.flush()
