"""Puts the agent together: fork server, what is found on disk, reconciler, connection, signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from runner_agent.clock import Clock, SystemClock
from runner_agent.config import Settings
from runner_agent.domain.events import HandoverRequested, LeaveRequested
from runner_agent.domain.state import Identity, initial_state
from runner_agent.execution import host
from runner_agent.execution.attempts import Attempts
from runner_agent.execution.fork_servers import ForkServers
from runner_agent.execution.inventory import Found, found_in
from runner_agent.execution.reconciler import Reconciler
from runner_agent.execution.room import Room, Threads
from runner_agent.execution.run_directory import StateDirectory
from runner_agent.execution.shim_link import ForkServerGone
from runner_agent.launchers.environment import base_environment
from runner_agent.session.connection import Connection
from runner_agent.session.credential_file import FILE_NAME
from runner_agent.session.enrolment import Enrolment
from runner_agent.telemetry import logger
from runner_agent.workspace.workspaces import Workspaces

FAREWELL_S = 2.0
CAPABILITIES = (("command", "1"),)


def agent_version() -> str:
    """The installed version."""
    try:
        return version("banksman")
    except PackageNotFoundError:
        return "0"


async def run_agent(
    settings: Settings, state: StateDirectory, join_token: Callable[[], str], clock: Clock | None = None
) -> None:
    """One agent's life. Raises Refused when the server will not have it, OSError for an unusable state directory."""
    clock = clock or SystemClock()
    log = logger("agent")
    report = host.look(os.environ, use_cgroups=settings.use_cgroups)
    fork_servers = ForkServers(settings.state_dir, use_cgroups=settings.use_cgroups)
    workspaces = Workspaces(settings.state_dir)
    found, unreadable = await asyncio.to_thread(_look_around, state, workspaces, report.boot_id)
    warnings = (*report.warnings, *state.warnings, *unreadable)
    for warning in warnings:
        log.warning("host", message=warning)
    identity = Identity(
        agent_version=agent_version(),
        labels={**host.facts(), **settings.labels},
        slots=settings.slots,
        boot_id=report.boot_id,
        state_directory_id=state.id,
        capabilities=CAPABILITIES,
        warnings=warnings,
    )
    reconciler = Reconciler(
        state=initial_state(identity, [item.held for item in found], min_disk_free_bytes=settings.min_disk_free_bytes),
        clock=clock,
        measure=partial(host.measure, settings.state_dir),
    )
    enrolment = Enrolment(
        path=settings.state_dir / FILE_NAME,
        clock=clock,
        name=settings.name,
        labels=settings.labels,
        join_token=join_token,
        replace_name=settings.replace,
    )
    connection = Connection(
        server=settings.server, insecure=settings.insecure, enrolment=enrolment, host=reconciler, clock=clock
    )
    room = Room(
        state=state,
        workspaces=workspaces,
        fork_servers=fork_servers,
        threads=Threads(),
        post=reconciler.post,
        runner_name=_own_name(settings, enrolment),
        boot_id=report.boot_id,
        base_env=base_environment(os.environ),
    )
    # Last: whoever stops us before this leaves nothing behind, and from here on a signal is heard.
    _listen_to_signals(reconciler)
    try:
        await fork_servers.get()
    except TimeoutError:
        raise ForkServerGone("it does not answer in time") from None
    log.info("started", state_dir=str(settings.state_dir), server=settings.server, found=len(found))
    await _live(reconciler, connection, room, found)


def _own_name(settings: Settings, enrolment: Enrolment) -> str:
    known = enrolment.identity
    if known is None or not known.enrolled or known.name == settings.name:
        return settings.name
    logger("agent").warning(
        "name", message=f"Already enrolled as {known.name!r}; the name {settings.name!r} is not used."
    )
    return known.name


async def _live(reconciler: Reconciler, connection: Connection, room: Room, found: tuple[Found, ...]) -> None:
    """Run everything until the reconciler says that the agent may leave, or the connection that it must."""
    log = logger("agent")
    async with asyncio.TaskGroup() as attempt_tasks:
        attempts = Attempts(room, attempt_tasks)
        for item in found:
            attempts.adopt(item)
        for_good = True
        try:
            async with asyncio.TaskGroup() as tasks:
                dialled = tasks.create_task(connection.run(), name="connection")
                leave = await reconciler.run(attempts)
                log.info("leaving", message=leave.reason)
                connection.stop()
                await asyncio.wait({dialled}, timeout=FAREWELL_S)
                dialled.cancel()
                for_good = leave.for_good
        finally:
            attempts.abandon()
            _ignore_signals()
            if for_good:
                # Also when the server refuses us: it leaves with its last shim, and the next agent starts another.
                await room.fork_servers.retire()


def _listen_to_signals(reconciler: Reconciler) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, reconciler.post_nowait, LeaveRequested())
    loop.add_signal_handler(signal.SIGUSR1, reconciler.post_nowait, HandoverRequested())


def _ignore_signals() -> None:
    """For good: one that comes while we leave must not make a kill of a clean end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _look_around(
    state: StateDirectory, workspaces: Workspaces, boot_id: str
) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """Scan the run directories before anything is said, and remove workspaces that belong to none of them."""
    found, unreadable = found_in(state.scan(), boot_id)
    workspaces.open()
    left = workspaces.sweep({f"{item.held.key}" for item in found})
    return found, (*unreadable, *(f"a workspace could not be removed: {what}" for what in left))
