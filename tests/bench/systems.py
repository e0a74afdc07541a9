"""The two systems under measurement, the floor and the product, behind one interface."""

from __future__ import annotations

import asyncio
import itertools
import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
from banksman.v1 import run_pb2, runner_pb2, secret_pb2, system_pb2

from tests.bench.clients import Stubs
from tests.bench.floor import SERVICE
from tests.scenarios.house import FINISHED, House
from tests.scenarios.program import touching
from tests.scenarios.specs import command, env, seconds, spec
from tests.waiting import wait_for

SECRETS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a measurement runs on. Without `floor` the product is measured alone."""

    slots: int = 8
    runners: int = 1
    floor: bool = True


class System(Protocol):
    """Gives commands to its runners and waits for them."""

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Leaves nothing; also after a start that failed."""

    def processes(self) -> dict[str, int]:
        """The pids of its programs, by what they are."""

    async def submit(self, argv: Sequence[str], *, secrets: int = 0) -> str:
        """Answers when the run is stored durably. So many secrets are masked in its log."""

    async def wait(self, run: str, *, settled: bool = True) -> int:
        """Answers when its end and its log (without `settled`: its end) are stored durably: the log's bytes."""

    async def cancel(self, run: str) -> None:
        """Ask for the end; answers when that is stored durably."""

    async def pause(self) -> None:
        """From here on nothing starts."""

    async def resume(self) -> None: ...

    async def idle(self) -> None:
        """Answers when nothing is queued and nothing runs."""


class Floor:
    name = "floor"

    def __init__(self, setup: Setup, directory: pathlib.Path) -> None:
        self._setup, self._directory = setup, directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self) -> None:
        self._directory.mkdir()
        self._channel: grpc.aio.Channel | None = None
        server = self._spawn("server", "server", str(self._directory), stdout=subprocess.PIPE)
        assert server.stdout is not None
        port = int(await asyncio.to_thread(server.stdout.readline))
        for number in range(self._setup.runners):
            self._spawn(_numbered("agent", number), "runner", str(port), str(self._setup.slots))
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        await self.wait(await self.submit(["/bin/true"]))

    def _spawn(self, label: str, *arguments: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "tests.bench.floor", *arguments]
        self._processes[label] = subprocess.Popen(argv, stdout=stdout)
        return self._processes[label]

    async def stop(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        for process in reversed(self._processes.values()):
            process.send_signal(signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def processes(self) -> dict[str, int]:
        return {label: process.pid for label, process in self._processes.items()}

    async def _call(self, method: str, request: bytes) -> bytes:
        assert self._channel is not None
        door: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(f"/{SERVICE}/{method}")
        return await door(request)

    async def submit(self, argv: Sequence[str], *, secrets: int = 0) -> str:
        return (await self._call("Submit", json.dumps(list(argv)).encode())).decode()

    async def wait(self, run: str, *, settled: bool = True) -> int:
        return int(await self._call("Wait", run.encode()))

    async def cancel(self, run: str) -> None:
        await self._call("Cancel", run.encode())

    async def pause(self) -> None:
        await self._call("Control", b"pause")

    async def resume(self) -> None:
        await self._call("Control", b"resume")

    async def idle(self) -> None:
        await self._call("Control", b"idle")


class Product:
    """The real programs, as an operator starts them."""

    name = "banksman"

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._names = [f"bench-{number}" for number in range(setup.runners)]
        self._there = False

    async def start(self) -> None:
        self.house = await asyncio.to_thread(House)
        self.stubs = Stubs(self.house.admin.target, self.house.admin.token)
        self._there = True
        for name in self._names:
            await asyncio.to_thread(self.house.agent, name, slots=self._setup.slots)
        for number in range(SECRETS):
            value = b"secret value %d, that no line holds" % number
            await self.stubs.secrets.SetSecret(secret_pb2.SetSecretRequest(name=f"BENCH_{number}", value=value))
        await self.wait(await self.submit(["/bin/true"]))

    async def stop(self) -> None:
        if self._there:
            await self.stubs.close()
            await asyncio.to_thread(self.house.close)

    def processes(self) -> dict[str, int]:
        found = {"server": self.house.server.pid}
        for number, name in enumerate(self._names):
            found[_numbered("agent", number)] = self.house.agents[name].pid
            found[_numbered("fork server", number)] = self._fork_server(number)
        return found

    def _fork_server(self, number: int) -> int:
        """Its own session, so it is nobody's child: found by the state directory that its arguments name."""
        directory = self.house.root / f"r{number}"

        def found() -> int | None:
            for pid in touching(directory):
                parent = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                if _is_fork_server(pid) and not _is_fork_server(parent):
                    return pid
            return None

        return wait_for(found, what="the fork server is there")

    async def submit(self, argv: Sequence[str], *, secrets: int = 0) -> str:
        wanted = ((f"BENCH_{number}", f"BENCH_{number}") for number in range(secrets))
        made = spec(command(argv), env=env(secrets=wanted)) if secrets else spec(argv)
        return str((await self.stubs.runs.CreateRun(run_pb2.CreateRunRequest(spec=made))).id)

    async def wait(self, run: str, *, settled: bool = True) -> int:
        wanted = run_pb2.WAIT_FOR_SETTLED if settled else run_pb2.WAIT_FOR_FINISHED
        request = run_pb2.WaitRunRequest(run=run, wait_for=wanted, timeout=seconds(60))
        for _ in range(10):
            now = await self.stubs.runs.WaitRun(request)
            if now.HasField("settled_at") or (not settled and now.state in FINISHED):
                return now.attempts[0].log_bytes if now.attempts else 0
        raise TimeoutError(f"run {run} does not settle")

    async def cancel(self, run: str) -> None:
        await self.stubs.runs.CancelRun(run_pb2.CancelRunRequest(run=run))

    async def pause(self) -> None:
        for name in self._names:
            await self.stubs.runners.DrainRunner(runner_pb2.DrainRunnerRequest(runner=name))

    async def resume(self) -> None:
        for name in self._names:
            await self.stubs.runners.ResumeRunner(runner_pb2.ResumeRunnerRequest(runner=name))

    async def idle(self) -> None:
        for _ in itertools.count():
            status = await self.stubs.system.GetStatus(system_pb2.GetStatusRequest())
            if not status.runs_queued and not status.runs_active:
                return
            await asyncio.sleep(0.02)


def systems(setup: Setup, directory: pathlib.Path) -> list[System]:
    """What a setup measures, not started yet; `directory` is made by the floor."""
    product = Product(setup)
    return [Floor(setup, directory), product] if setup.floor else [product]


def _numbered(label: str, number: int) -> str:
    return f"{label} {number + 1}" if number else label


def _is_fork_server(pid: int) -> bool:
    try:
        return b"fork_server" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
