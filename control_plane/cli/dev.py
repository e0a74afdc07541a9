"""`banksman dev`: a whole Banksman on this host, for as long as the command runs."""

from __future__ import annotations

import importlib.util
import os
import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from control_plane.cli import dev_instance
from control_plane.cli.commands import command, key_values
from control_plane.cli.dev_instance import Child
from control_plane.cli.discovery import LocalServer, dev_directory
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation
from control_plane.cli.target import Target, parse_url

LOOK_S = 0.5
# What the two programs need beyond the base install.
NEEDED = ("sqlalchemy", "alembic", "apscheduler", "cronsim", "structlog", "cryptography")


@command(
    "dev",
    examples=("banksman dev", "banksman dev --runner-slots 2 --label gpu=no", "banksman dev --state-dir /tmp/second"),
)
@click.option("--state-dir", metavar="DIR", help="Where everything is kept (default: ~/.local/state/banksman/dev).")
@click.option("--listen", metavar="HOST:PORT", help="Default: 127.0.0.1:7070, or a free port when that is taken.")
@click.option("--runner-slots", type=click.IntRange(1, 1000), metavar="N", help="Default: one a CPU.")
@click.option("--label", multiple=True, metavar="K=V", help="Label of the runner; repeatable.")
def dev(
    inv: Invocation, state_dir: str | None, listen: str | None, runner_slots: int | None, label: tuple[str, ...]
) -> int:
    """Start a control plane and a runner here; Ctrl-C stops both.

    They listen on loopback only. What they keep stays, so the next `banksman dev` goes on with it.
    """
    key_values(label, "--label")
    check_installed()
    base = Path(state_dir).absolute() if state_dir else dev_directory(inv.environ)
    programs = dev_instance.Programs()
    stopping = Stopping()
    with dev_instance.claimed(base), stopping.installed():
        server, local = dev_instance.start_server(base, listen or dev_instance.free_address(), inv.clock, programs)
        client = inv.client_for(target_of(local))
        try:
            slots = runner_slots or os.cpu_count() or 1
            runner, name = dev_instance.start_runner(base, client, inv.clock, programs, slots=slots, labels=label)
            try:
                welcome(inv, local, base, name, slots, chosen=state_dir is not None)
                stopping.wait((server, runner))
                inv.say("banksman dev: stopping; runs that are still going are stopped too")
            finally:
                # From now on an interrupt only hastens the end.
                stopping.hasten = lambda: runner.signal(signal.SIGTERM)
                dev_instance.stop_runner(runner)
        finally:
            if stopping.hasten is None:
                stopping.hasten = nothing
            client.close()
            dev_instance.stop_server(server)
    inv.say("banksman dev: both are stopped")
    return ExitCode.OK


def nothing() -> None:
    """There is nothing to hasten."""


class Stopping:
    """Ctrl-C and SIGTERM: before everything is up they break off, then they end the wait, then they hasten the stop."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._waiting = False
        self.hasten: Callable[[], None] | None = None

    def take(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler."""
        if self.hasten is not None:
            self.hasten()
        elif self._waiting:
            self._asked.put(number)
        else:
            raise KeyboardInterrupt

    @contextmanager
    def installed(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)

    def wait(self, children: tuple[Child, ...]) -> None:
        """Until a signal comes. Raises CliError when one of the programs ends by itself."""
        self._waiting = True
        while True:
            try:
                self._asked.get(timeout=LOOK_S)
            except queue.Empty:
                ended = next((child for child in children if not child.running()), None)
            else:
                return
            if ended is not None:
                raise CliError(
                    f"the {ended.name} ended by itself, {ended.how_it_ended()}",
                    exit_code=ExitCode.UNAVAILABLE,
                    details=ended.last_lines(),
                )


def check_installed() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CliError(
            "the server and the runner are not installed here",
            cause=f"missing: {', '.join(missing)}",
            next_command="pip install 'banksman[server,runner]'",
        )


def target_of(local: LocalServer) -> Target:
    address, tls = parse_url(local.url)
    return Target(url=local.url, token=local.token, address=address, tls=tls, project="", source=str(local.path))


def welcome(inv: Invocation, local: LocalServer, base: Path, name: str, slots: int, *, chosen: bool) -> None:
    """What is there now and how to use it."""
    lines = [
        "Banksman is up.",
        f"  control plane  {local.url}  (log: {base / 'server.log'})",
        f"  runner         {name}, {slots} slots  (log: {base / 'runner.log'})",
        f"  state          {base}",
        "",
        "In another terminal, as the same user:",
    ]
    if chosen:
        lines.append(f"  export BANKSMAN_STATE_DIR={base / 'server'}")
    lines += [
        "  banksman run exec -- echo hello",
        "  banksman status",
        "",
        "Ctrl-C stops both.",
    ]
    click.echo("\n".join(lines))
