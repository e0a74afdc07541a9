"""One host for the tests: a state directory with a real fork server, and attempts that run under real shims."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runner_agent.execution.log_reader import LogGap, LogReader, LogRecord
from runner_agent.execution.run_directory import StateDirectory
from runner_agent.execution.shim_link import (
    AttemptStart,
    Exited,
    ExitRecord,
    ForkServer,
    ShimEvent,
    ShimGone,
    ShimLink,
    StepStart,
)
from runner_agent.shim import files, tree
from tests.waiting import wait_for

PATH = os.environ.get("PATH", os.defpath)


def step(*argv: str, **changes: object) -> StepStart:
    """A MAIN step that runs argv in / with a PATH and nothing else."""
    return StepStart(**{"argv": argv, "env": {"PATH": PATH}, "cwd": "/", **changes})  # type: ignore[arg-type]


def shell(script: str, **changes: object) -> StepStart:
    """A step that runs a shell script."""
    return step("sh", "-c", script, **changes)


def python(program: str, **changes: object) -> StepStart:
    """A step that runs a Python program with nothing but the standard library."""
    return step(sys.executable, "-I", "-S", "-c", program, **changes)


@dataclass
class Run:
    """A started attempt: its link, and everything that it has told."""

    directory: Path
    run_id: str
    epoch: int
    link: ShimLink
    cookie: str
    events: list[ShimEvent] = field(default_factory=list)
    _iterator: AsyncIterator[ShimEvent] | None = None

    async def until(self, kind: type[ShimEvent], **fields: object) -> ShimEvent:
        """Read events up to the first of this kind with these fields."""
        if self._iterator is None:
            self._iterator = self.link.events()
        async with asyncio.timeout(60):
            while True:
                event = await anext(self._iterator)
                self.events.append(event)
                if isinstance(event, kind) and all(getattr(event, name) == fields[name] for name in fields):
                    return event
                assert not isinstance(event, Exited | ShimGone), f"ended before {kind.__name__}: {event}"

    async def end(self) -> ExitRecord:
        """The exit record."""
        event = await self.until(Exited)
        assert isinstance(event, Exited)
        self.link.close()
        return event.record

    async def bytes_below(self, count: int) -> None:
        """Until the spool holds so many bytes."""
        if self._iterator is None:
            self._iterator = self.link.events()
        async with asyncio.timeout(60):
            while True:
                event = await anext(self._iterator)
                self.events.append(event)
                if getattr(event, "offset", -1) >= count:
                    return
                assert not isinstance(event, Exited | ShimGone), f"ended before {count} bytes: {event}"

    def pids(self) -> list[int]:
        """Processes of this attempt that carry its cookie, alive now."""
        return [pid for pid in tree.cookie_holders(self.cookie) if is_alive(pid)]

    def log(self, kind: int | None = None) -> bytes:
        """What the spool holds, of one kind or of all, without our own lines."""
        return b"".join(item.data for item in self.items() if item.kind == kind or (kind is None and item.kind < 3))

    def items(self) -> list[LogRecord]:
        """Every record of the spool."""
        return [item for item in read_all(self.directory) if isinstance(item, LogRecord)]


class Host:
    """A state directory and its fork server."""

    def __init__(self, state: StateDirectory, fork_server: ForkServer) -> None:
        self.state = state
        self.fork_server = fork_server
        self._count = 0
        self.links: list[ShimLink] = []

    async def start(self, *steps: StepStart, run_id: str | None = None, epoch: int = 1, **changes: object) -> Run:
        """Accept an attempt and start it."""
        self._count += 1
        run_id = run_id or f"run-{self._count}"
        directory = self.state.accept(run_id, epoch, {})
        start = self.attempt(*steps, run_id=run_id, epoch=epoch, **changes)
        link = await self.fork_server.start(directory, start)
        self.links.append(link)
        return Run(directory, run_id, epoch, link, start.cookie)

    def attempt(self, *steps: StepStart, run_id: str, epoch: int = 1, **changes: object) -> AttemptStart:
        """A start with a cookie of its own."""
        cookie = os.urandom(12).hex()
        values = {"run_id": run_id, "epoch": epoch, "steps": steps, "cookie": cookie, **changes}
        return AttemptStart(**values)  # type: ignore[arg-type]

    async def run(self, *steps: StepStart, **changes: object) -> tuple[ExitRecord, Run]:
        """Start an attempt and wait for its end."""
        run = await self.start(*steps, **changes)
        return await run.end(), run

    def shims(self) -> list[int]:
        """The live children of the fork server."""
        return [pid for pid in tree.children(self.fork_server.pid) if is_alive(pid)]


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    stat = files.process_stat(pid)
    return stat is not None and stat.state != "Z"


def read_all(directory: Path, final_offset: int | None = None) -> list[LogRecord | LogGap]:
    """Everything in the spool from the first offset on."""
    reader = LogReader(directory)
    found: list[LogRecord | LogGap] = []
    while batch := reader.read(final_offset=final_offset):
        found += batch
    reader.close()
    return found


@asynccontextmanager
async def open_host(path: Path, *, use_cgroups: bool = True) -> AsyncIterator[Host]:
    """A host that leaves no process behind."""
    state = StateDirectory.open(path)
    fork_server = await ForkServer.connect_or_spawn(state.path, use_cgroups=use_cgroups)
    host = Host(state, fork_server)
    try:
        yield host
    finally:
        for link in host.links:
            link.close()
        end_fork_server(host.fork_server.pid)
        state.close()


def end_fork_server(pid: int) -> None:
    """Let it take no more, kill its shims (it kills what they leave), and wait until it is gone."""
    if not is_alive(pid):
        return
    tree.send(pid, signal.SIGTERM, None)
    for shim in tree.children(pid):
        tree.send(shim, signal.SIGKILL, None)
    wait_for(lambda: not is_alive(pid), what="the end of the fork server")
