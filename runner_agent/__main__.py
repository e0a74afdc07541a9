"""`banksman-runner`: run the agent, check this host, tell the version."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from runner_agent import app, config, telemetry
from runner_agent.config import BadConfig, Settings
from runner_agent.execution import host
from runner_agent.execution.run_directory import StateDirectory, StateDirectoryBusy
from runner_agent.execution.shim_link import ForkServerGone
from runner_agent.session import credential_file
from runner_agent.session.channel import BadAddress, target_of
from runner_agent.session.credential_file import BadCredentialFile
from runner_agent.session.refusals import EXIT_CONFLICT, Refused
from runner_agent.shim import files, tree

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
HANDOVER_S = 30.0
_PID_FILE = "agent.pid"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit code (0, 1 failed, 2 usage, 4 refused by the server, 6 conflict)."""
    flags = _parser().parse_args(arguments)
    if flags.command == "version":
        sys.stdout.write(f"banksman-runner {app.agent_version()}\n")
        return 0
    try:
        settings = config.load(flags, os.environ)
        target_of(settings.server, insecure=settings.insecure)
        return _check(settings) if flags.command == "check" else _run(settings)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BadConfig as error:
        return _fail("\n".join(f"{problem}." for problem in error.problems), EXIT_USAGE)
    except BadAddress as error:
        return _fail(f"--server: {error}.", EXIT_USAGE)
    except BadCredentialFile as error:
        return _fail(f"{error}.", EXIT_USAGE)
    except StateDirectoryBusy as error:
        return _fail(f"{error}; stop it, use another --state-dir, or take its place with --handover.", EXIT_CONFLICT)
    except ForkServerGone as error:
        return _fail(f"The fork server does not start: {error}.", EXIT_FAILED)
    except OSError as error:
        way_out = "make it writable for this user, or use another --state-dir"
        return _fail(f"The state directory {settings.state_dir} cannot be used: {error}; {way_out}.", EXIT_FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="banksman-runner", description="The runner agent of Banksman.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the agent",
        description="Run the agent. SIGTERM once: drain; twice: stop its runs; three times: kill them. SIGUSR1: leave "
        "and let the runs go on for the next agent.",
    )
    check = commands.add_parser("check", help="say what the agent would find on this host")
    for parser_with_settings in (run, check):
        config.add_flags(parser_with_settings)
    commands.add_parser("version", help="print the version")
    return parser


def _run(settings: Settings) -> int:
    telemetry.configure(level=settings.log_level, style=settings.log_style)
    stdin_text = sys.stdin.read(4_096) if settings.join_token_file == "-" else None
    signals = app.Signals()
    with _held_directory(settings, signals) as state:
        if state is None:
            return 0
        credential_file.load(settings.state_dir / credential_file.FILE_NAME)
        join_token = partial(config.read_join_token, settings, stdin_text)
        try:
            asyncio.run(app.run_agent(settings, state, join_token, signals))
        except BaseExceptionGroup as group:
            for error in _leaves(group):
                if isinstance(error, Refused):
                    return _fail(str(error), error.exit_code)
                if isinstance(error, BadConfig):
                    raise error from None
            raise
    return 0


@contextlib.contextmanager
def _held_directory(settings: Settings, signals: app.Signals) -> Iterator[StateDirectory | None]:
    """The state directory, ours alone; None if we were told to leave meanwhile. Raises StateDirectoryBusy, OSError."""
    state = _take_over(settings.state_dir, signals) if settings.handover else StateDirectory.open(settings.state_dir)
    if state is None:
        yield None
        return
    try:
        pid = os.getpid()
        (settings.state_dir / _PID_FILE).write_text(f"{pid} {files.start_time(pid)}\n", encoding="ascii")
        yield state
    finally:
        state.close()


def _take_over(state_dir: Path, signals: app.Signals) -> StateDirectory | None:
    """Ask the agent that is there to leave its runs to us, and wait until it has, or we are told to leave."""
    deadline = time.monotonic() + HANDOVER_S
    asked = False
    while not signals.came:
        try:
            return StateDirectory.open(state_dir)
        except StateDirectoryBusy:
            if time.monotonic() > deadline:
                raise
        if not asked:
            asked = _ask_to_leave(state_dir)
        time.sleep(0.05)
    return None


def _ask_to_leave(state_dir: Path) -> bool:
    try:
        pid, start_time = (state_dir / _PID_FILE).read_text(encoding="ascii").split()
        return tree.send(int(pid), signal.SIGUSR1, int(start_time))
    except (OSError, ValueError):
        return False


def _check(settings: Settings) -> int:
    """Print what the agent would find. Exit code 0 also with warnings."""
    report = host.look(os.environ, use_cgroups=settings.use_cgroups)
    identity = credential_file.load(settings.state_dir / credential_file.FILE_NAME)
    enrolled = f"yes, as {identity.name} ({identity.runner_id})" if identity and identity.enrolled else "no"
    lines = [
        f"state directory  {settings.state_dir}",
        f"server           {settings.server}",
        f"enrolled         {enrolled}",
        f"slots            {settings.slots}",
        f"cgroup           {report.cgroup or 'none that can be used'}",
        f"user isolation   none: runs execute as uid {report.uid}",
        f"systemd unit     {report.unit or 'none'}",
        f"KillMode         {report.kill_mode or 'not applicable'}",
        *(f"warning: {warning}" for warning in report.warnings),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"banksman-runner: {sentence}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
