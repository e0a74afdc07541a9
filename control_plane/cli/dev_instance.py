"""A control plane and a runner as two child processes on one state directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from control_plane.cli import contract
from control_plane.cli.client import Client
from control_plane.cli.clock import Clock
from control_plane.cli.discovery import NAME, LocalServer, read_admin
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode

DEFAULT_PORT = 7070
POLL_S = 0.05
START_S = 60.0
# After the polite signal: until the runs are told to stop, until they are killed, until the program is.
RUNNER_PATIENCE_S = (2.0, 60.0, 10.0)
SERVER_PATIENCE_S = 20.0
CLIENT_VARIABLES = ("BANKSMAN_URL", "BANKSMAN_TOKEN", "BANKSMAN_CONTEXT", "BANKSMAN_PROJECT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Command lines of the two programs, without their arguments."""

    # -P: a directory of that name where the caller stands is not meant.
    server: Sequence[str] = (sys.executable, "-P", "-m", "control_plane")
    runner: Sequence[str] = (sys.executable, "-P", "-m", "runner_agent")


@dataclass(frozen=True, slots=True)
class Child:
    """A started program and the file that its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def running(self) -> bool:
        return self.process.poll() is None

    def how_it_ended(self) -> str:
        """In words; only of a program that has ended."""
        code = self.process.returncode
        if code >= 0:
            return f"with exit code {code}"
        try:
            return f"by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"by signal {-code}"

    def last_lines(self, count: int = 20) -> tuple[str, ...]:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return tuple(lines[-count:])

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def ended_within(self, duration_s: float) -> bool:
        try:
            self.process.wait(duration_s)
        except subprocess.TimeoutExpired:
            return False
        return True


@contextmanager
def claimed(base: Path) -> Iterator[None]:
    """Hold the instance's lock. Raises CliError when another `banksman dev`, or its server, runs on the directory."""
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (base / "dev.lock").open("a")
    except OSError as error:
        raise CliError(f"cannot use {base}", cause=str(error)) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise running_already(base) from error
        server = read_admin(base / "server" / NAME)
        if server is not None and server.alive() and is_listening(server.url):
            raise running_already(base)
        yield


def running_already(base: Path) -> CliError:
    server = read_admin(base / "server" / NAME)
    where = f" at {server.url}, process {server.pid}" if server else ""
    return CliError(
        f"an instance is running already on {base}{where}",
        exit_code=ExitCode.CONFLICT,
        reason="DEV_RUNNING",
        next_command="banksman status, or banksman dev --state-dir DIR for another one beside it",
    )


def is_listening(url: str) -> bool:
    """Whether something answers there: a process id alone may have been given to another program."""
    from control_plane.cli.target import parse_url

    host, _, port = parse_url(url)[0].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


def free_address() -> str:
    """The usual port, or any when that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            return "127.0.0.1:0"
    return f"127.0.0.1:{DEFAULT_PORT}"


def launch(name: str, argv: Sequence[str], base: Path) -> Child:
    """Start a program in a session of its own, so that Ctrl-C reaches it only through us."""
    log = base / f"{name}.log"
    # Whom the caller talks to elsewhere is none of their business.
    environ = {key: value for key, value in os.environ.items() if key not in CLIENT_VARIABLES}
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True, env=environ
        )
    finally:
        os.close(descriptor)
    return Child(name, process, log)


def start_server(base: Path, listen: str, clock: Clock, programs: Programs) -> tuple[Child, LocalServer]:
    """Start the control plane and wait until it has written where it serves."""
    directory = base / "server"
    admin = directory / NAME
    child = launch("server", [*programs.server, "serve", "--state-dir", str(directory), "--listen", listen], base)
    end = clock.monotonic_s() + START_S
    try:
        while clock.monotonic_s() < end:
            if not child.running():
                break
            found = read_admin(admin)
            # What an earlier life left stays: the server goes on with its token, and writes the file anew.
            if found is not None and found.pid == child.process.pid:
                return child, found
            clock.sleep(POLL_S)
        raise did_not_start(child)
    except BaseException:
        stop_server(child)
        raise


def did_not_start(child: Child) -> CliError:
    return CliError(
        f"the {child.name} did not start",
        exit_code=ExitCode.UNAVAILABLE,
        details=child.last_lines(),
        next_command=f"less {child.log}",
    )


def start_runner(
    base: Path, client: Client, clock: Clock, programs: Programs, *, slots: int, labels: Sequence[str]
) -> tuple[Child, str]:
    """Start the runner with a fresh join token and wait until the control plane sees it; its name comes back."""
    name = runner_name(base, client)
    request = contract.runner_pb2.CreateJoinTokenRequest()
    made = client.call(client.runners.CreateJoinToken, request, repeatable=False)
    token_file = base / "join.token"
    token_file.unlink(missing_ok=True)
    descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(made.secret + "\n")
    argv = [*programs.runner, "run", "--state-dir", str(base / "runner"), "--server", client.target.url]
    argv += ["--join-token-file", str(token_file), "--name", name, "--slots", str(slots)]
    argv += [part for label in labels for part in ("--label", label)]
    child = launch("runner", argv, base)
    try:
        wait_until_connected(child, client, clock, name)
    except BaseException:
        stop_runner(child)
        raise
    finally:
        token_file.unlink(missing_ok=True)
        # An enrolled runner did not need it; a used one is gone already.
        with contextlib.suppress(CliError):
            delete = contract.runner_pb2.DeleteJoinTokenRequest(join_token=made.join_token.id)
            client.call(client.runners.DeleteJoinToken, delete, repeatable=False)
    return child, name


def wait_until_connected(child: Child, client: Client, clock: Clock, name: str) -> None:
    end = clock.monotonic_s() + START_S
    while clock.monotonic_s() < end and child.running():
        found = client.pages(client.runners.ListRunners, contract.runner_pb2.ListRunnersRequest(), lambda p: p.runners)
        if any(runner.name == name and runner.connected for runner in found):
            return
        clock.sleep(POLL_S)
    raise did_not_start(child)


def runner_name(base: Path, client: Client) -> str:
    """The name under which this directory's runner is enrolled, or a free one when it is not."""
    kept = base / "runner.name"
    if kept.exists() and (base / "runner").is_dir():
        return kept.read_text(encoding="utf-8").strip()
    request = contract.runner_pb2.ListRunnersRequest(include_revoked=True)
    taken = {runner.name for runner in client.pages(client.runners.ListRunners, request, lambda page: page.runners)}
    number, name = 1, "dev"
    while name in taken:
        number += 1
        name = f"dev-{number}"
    kept.write_text(name + "\n", encoding="utf-8")
    return name


def stop_runner(child: Child) -> None:
    """Ask it to finish, then to stop its runs, then to kill them; it always ends."""
    for patience_s in RUNNER_PATIENCE_S:
        child.signal(signal.SIGTERM)
        if child.ended_within(patience_s):
            return
    child.signal(signal.SIGKILL)
    child.process.wait()


def stop_server(child: Child) -> None:
    child.signal(signal.SIGTERM)
    if not child.ended_within(SERVER_PATIENCE_S):
        child.signal(signal.SIGKILL)
        child.process.wait()
