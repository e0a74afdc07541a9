"""The agent as a process, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from runner_agent.shim import files
from tests.waiting import wait_for

AGENT = (sys.executable, "-m", "runner_agent")


class Agent:
    """One `banksman-runner run` and its log. The shims that it leaves are ended by `end_everything`."""

    def __init__(self, state_dir: Path, server: str, *flags: str, stdin: bytes | None = None) -> None:
        self.state_dir = state_dir
        self.log_file = state_dir.parent / f"{state_dir.name}.agent.log"
        self._arguments = ("run", "--state-dir", str(state_dir), "--server", server, "--log-style", "json", *flags)
        self._stdin = stdin
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *more: str, **environment: str) -> Agent:
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *AGENT,
                *self._arguments,
                *more,
                stdin=asyncio.subprocess.DEVNULL if self._stdin is None else asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        if self._stdin is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(self._stdin)
            self.process.stdin.close()
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def wait(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.wait()

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def events(self, name: str) -> list[dict[str, object]]:
        found = []
        for line in self.log.splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                if entry.get("event") == name:
                    found.append(entry)
        return found

    async def end_everything(self) -> None:
        """End the agent, then the fork server and shims of this state directory, each by its own pid."""
        if self.process is not None and self.process.returncode is None:
            await self.kill()
        end_state_directory(self.state_dir)


def processes_of(state_dir: Path) -> set[int]:
    """Fork server, shims and runs of a state directory: by the fork server's command line, and downwards from there."""
    parents: dict[int, int] = {}
    roots: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            stat = (entry / "stat").read_text()
            line = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        pid = int(entry.name)
        parents[pid] = int(stat.rpartition(")")[2].split()[1])
        if os.fsencode(str(state_dir)) in line and b"-c" in line:
            roots.add(pid)
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def fork_server_of(state_dir: Path) -> int:
    """The pid of its fork server: the only one of its processes whose parent is not one of them."""
    below = processes_of(state_dir)
    stats = {pid: files.process_stat(pid) for pid in below}  # None: it has ended meanwhile
    (pid,) = (pid for pid, stat in stats.items() if stat is not None and stat.parent not in below)
    return pid


def end_state_directory(state_dir: Path) -> None:
    """Kill what a state directory has left alive, and wait until it is gone."""

    def gone() -> bool:
        left = processes_of(state_dir)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left

    wait_for(gone, what=f"the end of everything below {state_dir}")
