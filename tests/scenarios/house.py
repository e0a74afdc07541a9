"""One control plane and its runner agents as real processes in a short directory of their own."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import grpc
from banksman.v1 import log_pb2, run_pb2, runner_pb2, spec_pb2, system_pb2

from tests.scenarios.children import Fifo
from tests.scenarios.doors import Doors
from tests.scenarios.program import Program, end_all, environment
from tests.scenarios.specs import seconds
from tests.waiting import wait_for

FINISHED = frozenset(
    {
        run_pb2.RUN_STATE_SUCCEEDED,
        run_pb2.RUN_STATE_FAILED,
        run_pb2.RUN_STATE_TIMED_OUT,
        run_pb2.RUN_STATE_LOST,
        run_pb2.RUN_STATE_CANCELLED,
        run_pb2.RUN_STATE_EXPIRED,
        run_pb2.RUN_STATE_SKIPPED,
    }
)


class Admin(NamedTuple):
    """What the server leaves for the CLI on its host."""

    url: str
    token: str
    pid: int

    @property
    def target(self) -> str:
        return self.url.partition("://")[2]


class Agent(Program):
    """A runner agent; the same state directory at every start."""

    def __init__(self, house: House, name: str, argv: Sequence[str]) -> None:
        super().__init__(name, argv, house.root, house.extra)
        self._house = house

    def connect(self) -> None:
        """Start it, and wait until the control plane sees it."""
        before = self._session_epoch()
        self.start()
        self.wait_connected(before)

    def wait_connected(self, newer_than: int = 0) -> None:
        def connected() -> bool:
            self.expect_running()
            runner = self.runner()
            return runner is not None and runner.connected and runner.session_epoch > newer_than

        wait_for(connected, what=f"{self.name} is connected", timeout_s=45)

    def runner(self) -> runner_pb2.Runner | None:
        answer = self._house.doors.runners.ListRunners(
            runner_pb2.ListRunnersRequest(include_revoked=True, page_size=1000)
        )
        return next((runner for runner in answer.runners if runner.name == self.name), None)

    def _session_epoch(self) -> int:
        runner = self.runner()
        return runner.session_epoch if runner else 0


class House:
    """A server on a port of its own, agents, clients; nothing of it is left after close()."""

    def __init__(self, **settings: object) -> None:
        """`settings` are the server's, by their names; with one that is too short to be safe, give testing=True."""
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="bnk-", dir="/tmp"))  # short, because of unix socket paths
        self.extra = self.prepare(self.root)
        self._settings = {f"BANKSMAN_SERVER_{name.upper()}": str(value).lower() for name, value in settings.items()}
        self.agents: dict[str, Agent] = {}
        self._doors: list[Doors] = []
        self._fifos: list[Fifo] = []
        self._listen = "127.0.0.1:0"
        self.server = self._server_program()
        try:
            self.start_server()
            self.doors = self.client()
        except BaseException:
            self.close()
            raise

    # -- what a house of another kind has otherwise

    def prepare(self, root: pathlib.Path) -> Mapping[str, str]:
        """Before the first program starts: what they all get in their environment."""
        return {}

    def server_argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "control_plane"]

    def runner_argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "runner_agent"]

    # -- the control plane

    @property
    def server_directory(self) -> pathlib.Path:
        return self.root / "s"

    @property
    def admin(self) -> Admin:
        return Admin(**json.loads((self.server_directory / "admin.json").read_text()))

    def _server_program(self) -> Program:
        argv = [*self.server_argv(), "serve"]
        argv += ["--state-dir", str(self.server_directory), "--listen", self._listen]
        return Program("server", argv, self.root, {**self.extra, **self._settings})

    def start_server(self) -> None:
        """Start (again, on the port that it had) and wait until it answers."""
        self.server.start()
        pid = self.server.pid

        def announced() -> bool:
            self.server.expect_running()
            try:
                return self.admin.pid == pid
            except (FileNotFoundError, json.JSONDecodeError):
                return False

        wait_for(announced, what="the server writes admin.json", timeout_s=45)
        self._listen = self.admin.target
        self.server.argv[-1] = self._listen
        probe = Doors(self.admin.target, self.admin.token)
        probe.system.GetServerInfo(system_pb2.GetServerInfoRequest(), timeout=30)
        probe.close()

    def client(self, token: str | None = "", *watching: grpc.UnaryUnaryClientInterceptor) -> Doors:
        """A client with this token; by default the admin's; None calls without any. Interceptors may watch it."""
        doors = Doors(self.admin.target, self.admin.token if token == "" else token, *watching)
        self._doors.append(doors)
        return doors

    # -- runners

    def join_token(self, **fields: Any) -> pathlib.Path:
        """A 0600 file with a fresh join token."""
        answer = self.doors.runners.CreateJoinToken(runner_pb2.CreateJoinTokenRequest(**fields))
        handle, path = tempfile.mkstemp(prefix="join-", dir=self.root)
        with open(handle, "w") as file:
            file.write(answer.secret)
        return pathlib.Path(path)

    def agent(self, name: str, *, slots: int = 4, labels: Mapping[str, str] | None = None, start: bool = True) -> Agent:
        """Enrol a runner under this name and wait until it is connected."""
        argv = [*self.runner_argv(), "run", "--state-dir", str(self.root / f"r{len(self.agents)}")]
        argv += ["--server", self.admin.url, "--join-token-file", str(self.join_token())]
        argv += ["--name", name, "--slots", str(slots)]
        for key, value in (labels or {}).items():
            argv += ["--label", f"{key}={value}"]
        made = self.agents[name] = Agent(self, name, argv)
        if start:
            made.connect()
        return made

    # -- runs

    def submit(self, spec: spec_pb2.RunSpec, **fields: Any) -> run_pb2.Run:
        return self.doors.runs.CreateRun(run_pb2.CreateRunRequest(spec=spec, **fields))

    def get(self, run: str) -> run_pb2.Run:
        return self.doors.runs.GetRun(run_pb2.GetRunRequest(run=run))

    def cancel(self, run: str, **fields: Any) -> run_pb2.Run:
        return self.doors.runs.CancelRun(run_pb2.CancelRunRequest(run=run, **fields))

    def wait(self, run: str, *, settled: bool = True, timeout_s: float = 45.0) -> run_pb2.Run:
        """The run once it is finished (and settled: log sealed)."""
        wanted = run_pb2.WAIT_FOR_SETTLED if settled else run_pb2.WAIT_FOR_FINISHED
        request = run_pb2.WaitRunRequest(run=run, wait_for=wanted, timeout=seconds(timeout_s))
        now = self.doors.runs.WaitRun(request, timeout=timeout_s + 15)
        if now.state not in FINISHED or (settled and not now.HasField("settled_at")):
            raise TimeoutError(
                f"run not {'settled' if settled else 'finished'} in {timeout_s:g} s: {now}\n{self.said()}"
            )
        return now

    def execute(self, spec: spec_pb2.RunSpec, **fields: Any) -> run_pb2.Run:
        """Submit and wait until the run has settled."""
        return self.wait(self.submit(spec, **fields).id)

    def wait_state(self, run: str, *states: run_pb2.RunState.ValueType, timeout_s: float = 30.0) -> run_pb2.Run:
        """Watch the run's changes until it is in one of the states."""
        stream = self.doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run), timeout=timeout_s)
        for change in stream:
            if change.run.state in states:
                stream.cancel()
                return change.run
        raise AssertionError("the watch ended before the run came so far")

    def batches(self, run: str, **fields: Any) -> Iterator[log_pb2.ReadLogsResponse]:
        return self.doors.logs.ReadLogs(log_pb2.ReadLogsRequest(run=run, **fields), timeout=90)

    def log(self, run: str, *kinds: log_pb2.LogKind.ValueType, **fields: Any) -> bytes:
        """The children's bytes of the newest attempt; by default both streams as they were read."""
        wanted = kinds or (log_pb2.LOG_KIND_STDOUT, log_pb2.LOG_KIND_STDERR)
        found = (item.batch.records for item in self.batches(run, kinds=wanted, **fields) if item.HasField("batch"))
        return b"".join(record.data for records in found for record in records)

    def log_end(self, run: str) -> log_pb2.LogEnd:
        """How the log ends: follow it to there."""
        *_, last = self.batches(run, follow=True)
        assert last.HasField("end"), last
        return last.end

    def events(self, run: str) -> list[run_pb2.RunEvent]:
        return list(self.doors.runs.ListRunEvents(run_pb2.ListRunEventsRequest(run=run, page_size=1000)).events)

    # -- files, the CLI, the end

    def fifo(self, name: str | pathlib.Path) -> Fifo:
        made = Fifo(self.root / name)
        self._fifos.append(made)
        return made

    def banksman(self) -> tuple[list[str], dict[str, str]]:
        """argv and environment of a CLI that talks to this server."""
        admin = self.admin
        return [str(pathlib.Path(sys.executable).parent / "banksman")], environment(
            self.root, {"BANKSMAN_URL": admin.url, "BANKSMAN_TOKEN": admin.token}
        )

    def cli(
        self, *arguments: str, input: bytes = b"", extra: Mapping[str, str] | None = None, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Call `banksman` with these arguments and this standard input."""
        argv, env = self.banksman()
        return subprocess.run(
            [*argv, *arguments],
            input=input,
            capture_output=True,
            env={**env, **(extra or {})},
            cwd=self.root,
            timeout=timeout_s,
            check=False,
        )

    def start_cli(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The CLI in a session of its own; the caller waits for it (close() ends what is left)."""
        argv, env = self.banksman()
        return subprocess.Popen(
            [*argv, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=self.root,
            start_new_session=True,
        )

    def said(self) -> str:
        """The last words of all programs, for a failure's report."""
        programs = [self.server, *self.agents.values()]
        return "\n".join(f"--- {program.name} (running: {program.running})\n{program.said()}" for program in programs)

    def close(self) -> None:
        for doors in self._doors:
            doors.close()
        programs = [*self.agents.values(), self.server]
        end_all(self.root)
        for program in programs:
            if program.started:
                program.wait(10)
        for fifo in self._fifos:
            fifo.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unshared(house: House) -> pathlib.Path:
    """A fresh directory in a shared house, for one test's files."""
    return pathlib.Path(tempfile.mkdtemp(prefix="t-", dir=os.fspath(house.root)))
