"""Puts the agent together: fork server, what is found on disk, reconciler, connection, signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

from runner_agent.clock import Clock, SystemClock
from runner_agent.config import Settings
from runner_agent.domain.events import Event, HandoverRequested, LeaveRequested
from runner_agent.domain.state import Identity, initial_state
from runner_agent.execution import host
from runner_agent.execution.afterwards import with_workspace
from runner_agent.execution.attempts import Attempts
from runner_agent.execution.batches import Batches
from runner_agent.execution.fork_servers import ForkServers
from runner_agent.execution.inventory import Found, found_in
from runner_agent.execution.reconciler import Reconciler
from runner_agent.execution.removal import Removal
from runner_agent.execution.room import Room, Threads
from runner_agent.execution.run_directory import StateDirectory
from runner_agent.execution.shim_link import ForkServerGone
from runner_agent.launchers.environment import base_environment
from runner_agent.launchers.own_programs import install, with_programs
from runner_agent.session.connection import Connection
from runner_agent.session.credential_file import FILE_NAME
from runner_agent.session.enrolment import Enrolment
from runner_agent.session.uploads import Uploads
from runner_agent.telemetry import logger
from runner_agent.workspace import kept
from runner_agent.workspace.workspaces import Workspaces

FAREWELL_S = 2.0
# How often kept workspaces are looked at, at least and at most.
LOOK_AT_KEPT_S, LEAST_PAUSE_S = 5.0, 0.2
CAPABILITIES = (("command", "1"),)


def agent_version() -> str:
    """The installed version."""
    try:
        return version("banksman")
    except PackageNotFoundError:
        return "0"


class Signals:
    """What asks the agent to leave, from its first moment on: what comes before anybody can be told is kept."""

    _EVENTS: Mapping[int, Event] = MappingProxyType(
        {signal.SIGTERM: LeaveRequested(), signal.SIGINT: LeaveRequested(), signal.SIGUSR1: HandoverRequested()}
    )

    def __init__(self) -> None:
        self._kept: list[int] = []
        for number in self._EVENTS:
            signal.signal(number, lambda number, _: self._kept.append(number))

    @property
    def came(self) -> bool:
        """Whether the agent is to leave before it has begun."""
        return bool(self._kept)

    def tell(self, post: Callable[[Event], None]) -> None:
        """Tell what has come, and from now on what comes."""
        loop = asyncio.get_running_loop()
        for number, event in self._EVENTS.items():
            loop.add_signal_handler(number, post, event)
        for number in self._kept:
            post(self._EVENTS[number])

    def ignore(self) -> None:
        """For good: one that comes while we leave must not make a kill of a clean end."""
        loop = asyncio.get_running_loop()
        for number in self._EVENTS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


async def run_agent(
    settings: Settings,
    state: StateDirectory,
    join_token: Callable[[], str],
    signals: Signals,
    clock: Clock | None = None,
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
    identity = _identity(settings, state, report.boot_id, warnings)
    reconciler = Reconciler(
        state=initial_state(identity, [item.held for item in found], min_disk_free_bytes=settings.min_disk_free_bytes),
        clock=clock,
        measure=partial(host.measure, settings.state_dir),
    )
    enrolment = _enrolment(settings, join_token, clock)
    connection = Connection(
        server=settings.server, insecure=settings.insecure, enrolment=enrolment, host=reconciler, clock=clock
    )
    uploads = Uploads(
        server=settings.server,
        insecure=settings.insecure,
        enrolment=enrolment,
        state_directory_id=state.id,
        clock=clock,
        post=reconciler.post,
    )
    room = Room(
        state=state,
        workspaces=workspaces,
        fork_servers=fork_servers,
        threads=Threads(),
        post=reconciler.post,
        journal=Batches("journal", state.accept_all, failed=_as_os_error),
        removal=Batches("release", Removal(state=state, workspaces=workspaces).remove_all, failed=_as_os_error),
        upload=uploads.upload,
        runner_name=_own_name(settings, enrolment),
        boot_id=report.boot_id,
        base_env=with_programs(base_environment(os.environ), await asyncio.to_thread(install, settings.state_dir)),
    )
    signals.tell(reconciler.post_nowait)
    # Last: what fails before this leaves nothing behind.
    try:
        await fork_servers.get()
    except TimeoutError:
        raise ForkServerGone("it does not answer in time") from None
    log.info("started", state_dir=str(settings.state_dir), server=settings.server, found=len(found))
    await _live(reconciler, connection, room, found, signals, clock)


def _identity(settings: Settings, state: StateDirectory, boot_id: str, warnings: tuple[str, ...]) -> Identity:
    return Identity(
        agent_version=agent_version(),
        labels={**host.facts(), **settings.labels},
        slots=settings.slots,
        boot_id=boot_id,
        state_directory_id=state.id,
        capabilities=CAPABILITIES,
        warnings=warnings,
    )


def _enrolment(settings: Settings, join_token: Callable[[], str], clock: Clock) -> Enrolment:
    return Enrolment(
        path=settings.state_dir / FILE_NAME,
        clock=clock,
        name=settings.name,
        labels=settings.labels,
        join_token=join_token,
        replace_name=settings.replace,
    )


def _own_name(settings: Settings, enrolment: Enrolment) -> str:
    known = enrolment.identity
    if known is None or not known.enrolled or known.name == settings.name:
        return settings.name
    logger("agent").warning(
        "name", message=f"Already enrolled as {known.name!r}; the name {settings.name!r} is not used."
    )
    return known.name


async def _live(
    reconciler: Reconciler,
    connection: Connection,
    room: Room,
    found: tuple[Found, ...],
    signals: Signals,
    clock: Clock,
) -> None:
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
                tidying = tasks.create_task(_tidy(room, clock), name="kept workspaces")
                leave = await reconciler.run(attempts)
                log.info("leaving", message=leave.reason)
                connection.stop()
                await asyncio.wait({dialled}, timeout=FAREWELL_S)
                dialled.cancel()
                tidying.cancel()
                for_good = leave.for_good
        finally:
            attempts.abandon()
            signals.ignore()
            if for_good:
                # Also when the server refuses us: it leaves with its last shim, and the next agent starts another.
                await room.fork_servers.retire()


async def _tidy(room: Room, clock: Clock) -> None:
    """Remove kept workspaces when their time has come. A short sleep: the wall clock may be set."""
    while True:
        now_ns, pause_s = clock.wall_ns(), LOOK_AT_KEPT_S
        try:
            due_ns, left = await room.threads.remove(kept.remove_due, room.workspaces, now_ns)
        except OSError as error:
            logger("agent").warning("kept_workspaces_not_read", error=str(error))
        except Exception as error:  # noqa: BLE001 - disk space that stays taken must not end the agent
            logger("agent").error("kept_workspaces_not_read", exc_info=error)
        else:
            for what in left:
                logger("agent").warning("workspace_not_removed", error=what)
            if due_ns is not None:
                pause_s = min(pause_s, max(0.0, (due_ns - now_ns) / 1e9) + LEAST_PAUSE_S)
        await asyncio.sleep(pause_s)


def _as_os_error(error: Exception) -> OSError:
    """Attempts know what to do about a disk that fails; they do the same about a mistake of ours."""
    return OSError(f"an internal error: {error!r}")


def _look_around(
    state: StateDirectory, workspaces: Workspaces, boot_id: str
) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """Scan the run directories before anything is said, and remove workspaces that belong to none of them."""
    found, unreadable = found_in(state.scan(), boot_id)
    workspaces.open()
    stays = set(kept.kept(workspaces, 0))
    left = workspaces.sweep(stays | {f"{item.held.key}" for item in found})
    found = tuple(with_workspace(item, workspaces) for item in found)
    return found, (*unreadable, *(f"a workspace could not be removed: {what}" for what in left))
