"""The program: what is started, in which order, and stopped, in which order."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack

from control_plane import telemetry
from control_plane.api.server import PortTaken
from control_plane.auth import admin_file
from control_plane.auth.tokens import ENTROPY_BYTES, TokenKind, digest, mint
from control_plane.clock import Clock, SystemClock
from control_plane.config import Settings
from control_plane.dispatch.sweeper import Sweeper
from control_plane.lifecycle import clocks, principals, restores, tokens
from control_plane.lifecycle.house import House
from control_plane.rooms import CannotStart, Rooms, build, open_database
from control_plane.storage.database import DATABASE_NAME

log = telemetry.logger("app")

RECONNECT_AFTER_S = 1.0
RECONNECT_JITTER_S = 5.0
# New objects, young collections, middle collections: before each next larger collection.
COLLECT_AFTER = (10_000, 25, 25)
TOKEN_NOTE = "made by the server for the CLI on this host"


async def restored(settings: Settings, *, above: int = 0, clock: Clock | None = None) -> restores.Raised:
    """The database of this state directory was put back from a backup; no server may run on it.

    Raises CannotStart (in use, unreadable), ValueError when there is no generation left above `above`.
    """
    clock = clock or SystemClock()
    if not (settings.state_path / DATABASE_NAME).exists():
        raise CannotStart(f"there is no database in {settings.state_dir}")
    database = open_database(settings, clock)
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
        database = open_database(settings, clock)
        stack.push_async_callback(database.close)
        rooms = await build(settings, clock, database)
        stack.callback(rooms.store.close)
        stack.callback(rooms.tail.close)
        stack.callback(rooms.desk.intake.shut)
        if served is None:
            _rest_collector()
        await _run(settings, rooms, stop, served or _say)
    log.info("stopped")
    if served is None:
        _ignore_signals()


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
