"""The two systems under measurement, the floor and the product, behind one interface."""

from __future__ import annotations

import asyncio
import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol

import grpc
from banksman.v1 import run_pb2, run_pb2_grpc, runner_pb2, runner_pb2_grpc, system_pb2, system_pb2_grpc

from tests.bench.floor import SERVICE
from tests.scenarios.house import FINISHED, House
from tests.scenarios.program import peak_mib
from tests.scenarios.specs import seconds, spec

SLOTS = 8


class System(Protocol):
    """Gives commands to a runner with 8 slots and waits for them."""

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def submit(self, argv: Sequence[str]) -> str:
        """Answers when the run is stored durably."""

    async def wait(self, run: str) -> int:
        """Answers when its end and its log are stored durably: the log's length in bytes."""

    async def cancel(self, run: str) -> None:
        """Ask for the end; answers when that is stored durably."""

    async def pause(self) -> None:
        """From here on nothing starts."""

    async def resume(self) -> None: ...

    async def idle(self) -> None:
        """Answers when nothing is queued and nothing runs."""

    def peaks_mib(self) -> tuple[float, float]:
        """Peak resident memory of the server and the runner."""


class Floor:
    name = "floor"

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        self._directory.mkdir()
        server = self._spawn("server", str(self._directory), stdout=subprocess.PIPE)
        assert server.stdout is not None
        port = int(await asyncio.to_thread(server.stdout.readline))
        self._spawn("runner", str(port), str(SLOTS))
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        await self.wait(await self.submit(["/bin/true"]))

    def _spawn(self, *arguments: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        self._processes.append(subprocess.Popen([sys.executable, "-m", "tests.bench.floor", *arguments], stdout=stdout))
        return self._processes[-1]

    async def stop(self) -> None:
        await self._channel.close()
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    async def _call(self, method: str, request: bytes) -> bytes:
        door: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(f"/{SERVICE}/{method}")
        return await door(request)

    async def submit(self, argv: Sequence[str]) -> str:
        return (await self._call("Submit", json.dumps(list(argv)).encode())).decode()

    async def wait(self, run: str) -> int:
        return int(await self._call("Wait", run.encode()))

    async def cancel(self, run: str) -> None:
        await self._call("Cancel", run.encode())

    async def pause(self) -> None:
        await self._call("Control", b"pause")

    async def resume(self) -> None:
        await self._call("Control", b"resume")

    async def idle(self) -> None:
        await self._call("Control", b"idle")

    def peaks_mib(self) -> tuple[float, float]:
        server, runner = self._processes
        return peak_mib(server.pid), peak_mib(runner.pid)


class Product:
    """The real programs, as an operator starts them."""

    name = "banksman"

    async def start(self) -> None:
        self._house = House()
        try:
            self._house.agent("bench", slots=SLOTS)
        except BaseException:
            self._house.close()
            raise
        admin = self._house.admin
        self._channel = grpc.aio.insecure_channel(admin.target)
        self._metadata = (("authorization", f"Bearer {admin.token}"),)
        self._runs = run_pb2_grpc.RunServiceStub(self._channel)
        self._runners = runner_pb2_grpc.RunnerServiceStub(self._channel)
        self._system = system_pb2_grpc.SystemServiceStub(self._channel)
        await self.wait(await self.submit(["/bin/true"]))

    async def stop(self) -> None:
        await self._channel.close()
        self._house.close()

    async def submit(self, argv: Sequence[str]) -> str:
        request = run_pb2.CreateRunRequest(spec=spec(argv))
        return (await self._runs.CreateRun(request, metadata=self._metadata)).id

    async def wait(self, run: str) -> int:
        request = run_pb2.WaitRunRequest(run=run, wait_for=run_pb2.WAIT_FOR_SETTLED, timeout=seconds(60))
        for _ in range(10):
            now = await self._runs.WaitRun(request, metadata=self._metadata)
            if now.HasField("settled_at"):
                assert now.state in FINISHED
                return now.attempts[0].log_bytes
        raise TimeoutError(f"run {run} does not settle")

    async def cancel(self, run: str) -> None:
        await self._runs.CancelRun(run_pb2.CancelRunRequest(run=run), metadata=self._metadata)

    async def pause(self) -> None:
        await self._runners.DrainRunner(runner_pb2.DrainRunnerRequest(runner="bench"), metadata=self._metadata)

    async def resume(self) -> None:
        await self._runners.ResumeRunner(runner_pb2.ResumeRunnerRequest(runner="bench"), metadata=self._metadata)

    async def idle(self) -> None:
        while True:
            status = await self._system.GetStatus(system_pb2.GetStatusRequest(), metadata=self._metadata)
            if not status.runs_queued and not status.runs_active:
                return
            await asyncio.sleep(0.05)

    def peaks_mib(self) -> tuple[float, float]:
        return peak_mib(self._house.server.pid), peak_mib(self._house.agents["bench"].pid)
