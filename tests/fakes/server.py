"""A real control plane inside the test's own loop: real gRPC on a free loopback port, real SQLite, real files."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import grpc
from banksman.v1 import (
    access_pb2_grpc,
    log_pb2,
    log_pb2_grpc,
    notification_pb2_grpc,
    project_pb2_grpc,
    report_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    runner_pb2,
    runner_pb2_grpc,
    schedule_pb2_grpc,
    secret_pb2_grpc,
    spec_pb2,
    system_pb2_grpc,
    task_pb2_grpc,
    template_pb2_grpc,
)
from google.protobuf.duration_pb2 import Duration

from control_plane.app import serve
from control_plane.clock import Clock, SystemClock
from control_plane.config import Settings
from tests.fakes.runner import ScriptedRunner

PATIENCE_S = 30.0


class Doors:
    """Stubs of every service for one caller; None calls without a token."""

    def __init__(self, target: str, token: str | None) -> None:
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self.channel = grpc.aio.insecure_channel(target, interceptors=_bearers(metadata))
        self.tasks: Any = task_pb2_grpc.TaskServiceStub(self.channel)
        self.reports: Any = report_pb2_grpc.ReportServiceStub(self.channel)
        self.templates: Any = template_pb2_grpc.TemplateServiceStub(self.channel)
        self.runs: Any = run_pb2_grpc.RunServiceStub(self.channel)
        self.logs: Any = log_pb2_grpc.LogServiceStub(self.channel)
        self.schedules: Any = schedule_pb2_grpc.ScheduleServiceStub(self.channel)
        self.notifications: Any = notification_pb2_grpc.NotificationServiceStub(self.channel)
        self.projects: Any = project_pb2_grpc.ProjectServiceStub(self.channel)
        self.access: Any = access_pb2_grpc.AccessServiceStub(self.channel)
        self.runners: Any = runner_pb2_grpc.RunnerServiceStub(self.channel)
        self.secrets: Any = secret_pb2_grpc.SecretServiceStub(self.channel)
        self.system: Any = system_pb2_grpc.SystemServiceStub(self.channel)

    async def submit(self, *argv: str, **fields: Any) -> Any:
        """A run of a spec of its own."""
        spec_words = fields.pop("spec", {})
        return await self.runs.CreateRun(
            run_pb2.CreateRunRequest(spec=spec(*(argv or ("true",)), **spec_words), **fields)
        )

    async def run(self, run: str) -> Any:
        """The run as it is now."""
        return await self.runs.GetRun(run_pb2.GetRunRequest(run=run))

    async def until(self, run: str, *states: int) -> Any:
        """The run once it is in one of the states."""
        stream = self.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run), timeout=PATIENCE_S)
        async for change in stream:
            if change.run.state in states:
                stream.cancel()
                return await self.run(run)
        raise AssertionError("the watch ended")

    async def settled(self, run: str) -> Any:
        """The run once its log is sealed too."""
        request = run_pb2.WaitRunRequest(
            run=run, wait_for=run_pb2.WAIT_FOR_SETTLED, timeout=Duration(seconds=int(PATIENCE_S))
        )
        now = await self.runs.WaitRun(request)
        assert now.HasField("settled_at"), now
        return now

    async def log(self, run: str, **fields: Any) -> tuple[bytes, Any]:
        """The bytes of a log, and its end."""
        data, end = b"", None
        async for item in self.logs.ReadLogs(log_pb2.ReadLogsRequest(run=run, **fields), timeout=PATIENCE_S):
            data += b"".join(record.data for record in item.batch.records)
            end = item.end if item.HasField("end") else end
        return data, end


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details._replace(metadata=(*(details.metadata or ()), *self._metadata)), request)


class _Streamed(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details._replace(metadata=(*(details.metadata or ()), *self._metadata)), request)


def _bearers(metadata: tuple[tuple[str, str], ...]) -> list[Any]:
    return [_Unary(metadata), _Streamed(metadata)]


def spec(*argv: str, **words: Any) -> Any:
    """A spec of one MAIN step."""
    step = spec_pb2.Step(kind=spec_pb2.STEP_KIND_MAIN, command=spec_pb2.Command(argv=list(argv)))
    return spec_pb2.RunSpec(steps=[step], **words)


def log_digest(data: bytes) -> str:
    """SHA-256 over the SHA-256s of 1 MiB blocks."""
    blocks = (data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20))
    return hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).hexdigest()


class Server:
    """One control plane; it can be stopped and started again on the same state."""

    def __init__(self, state: Path, clock: Clock | None = None, **settings: Any) -> None:
        self.state = state
        self.clock = clock or SystemClock()
        self._words = {"stop_grace_s": 1.0, **settings}
        self._listen = "127.0.0.1:0"
        self._task: asyncio.Task[None] | None = None
        self._stop: asyncio.Event | None = None
        self._opened: list[Any] = []
        self.url = ""

    @property
    def target(self) -> str:
        """host:port."""
        return self.url.removeprefix("http://")

    @property
    def admin(self) -> dict[str, Any]:
        """What admin.json says."""
        words: dict[str, Any] = json.loads((self.state / "admin.json").read_text())
        return words

    async def start(self) -> None:
        """Serve; on the port that it had, if it has served before."""
        ready = asyncio.get_running_loop().create_future()
        settings = Settings(state_dir=str(self.state), listen=self._listen, **self._words)
        self._task = asyncio.create_task(
            serve(settings, clock=self.clock, served=lambda url, stop: ready.set_result((url, stop))), name="server"
        )
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task
        self.url, self._stop = ready.result()
        self._listen = self.target

    async def stop(self) -> None:
        """A graceful stop, to its end."""
        if self._task is not None and self._stop is not None:
            self._stop.set()
            task, self._task = self._task, None
            async with asyncio.timeout(PATIENCE_S):
                await task

    async def close(self) -> None:
        """Stop, and close what was opened."""
        for opened in self._opened:
            await opened.close()
        await self.stop()

    def doors(self, token: str | None = "") -> Doors:
        """Stubs with this token; by default the admin's."""
        doors = Doors(self.target, self.admin["token"] if token == "" else token)
        self._opened.append(doors.channel)
        return doors

    async def runner(self, name: str = "host-1", **words: Any) -> ScriptedRunner:
        """An enrolled scripted runner."""
        made = await self.doors().runners.CreateJoinToken(runner_pb2.CreateJoinTokenRequest())
        runner = ScriptedRunner(self.target, name=name, **words)
        self._opened.append(runner)
        await runner.enroll(made.secret)
        return runner
