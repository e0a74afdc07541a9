"""The server's own command line: serve, restored, version, check-config."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
from collections.abc import Sequence
from importlib.metadata import version

from control_plane.config import ConfigError, Settings, load

FAILED, MISUSED = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 is fine, 1 could not, 2 was misused or its configuration is wrong."""
    arguments = _parser().parse_args(argv)
    if arguments.command == "version":
        sys.stdout.write(f"banksman-server {version('banksman')}\n")
        return 0
    try:
        settings = load(_flags(arguments), os.environ, arguments.config)
    except ConfigError as error:
        return _fail(str(error), MISUSED)
    if arguments.command == "check-config":
        sys.stdout.write(f"The configuration is fine; state lives in {settings.state_dir}.\n")
        return 0
    return _restored(settings, arguments.above) if arguments.command == "restored" else _serve(settings)


def _restored(settings: Settings, above: int) -> int:
    from control_plane.app import restored
    from control_plane.rooms import CannotStart

    try:
        raised = asyncio.run(restored(settings, above=above))
    except (CannotStart, ValueError) as error:
        return _fail(str(error))
    sys.stdout.write(
        f"Fences are now given out from generation {raised.after} on (before: {raised.before}). At its next start the "
        "server offers nothing until its runners have told what they hold, for a minute at most.\n"
    )
    return 0


def _serve(settings: Settings) -> int:
    # Late, so that `version` and `check-config` do not wait for it.
    from control_plane.app import serve
    from control_plane.rooms import CannotStart

    _take_descriptors()
    sentence = ""
    try:
        asyncio.run(serve(settings))
    except* CannotStart as group:
        sentence = str(group.exceptions[0])
    return _fail(sentence) if sentence else 0


def _take_descriptors() -> None:
    """As many as the host allows: each connected runner takes one, and the usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _fail(sentence: str, exit_code: int = FAILED) -> int:
    sys.stderr.write(f"banksman-server: {sentence}\n")
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="banksman-server", description="The control plane of Banksman.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the control plane until SIGTERM or SIGINT")
    check = commands.add_parser("check-config", help="say whether the configuration can be used")
    restored = commands.add_parser(
        "restored",
        help="say that the database was put back from a backup (once, before the first start)",
        description="Say that the database was put back from a backup, before the server is started on it: attempts get"
        " fences that were never given out in the time that was lost.",
    )
    restored.add_argument(
        "--above", type=int, default=0, metavar="N", help="also above this generation, which a runner was seen to hold"
    )
    commands.add_parser("version", help="print the version")
    for command in (serve, check, restored):
        command.add_argument("--config", metavar="FILE", help="TOML file; else $BANKSMAN_SERVER_CONFIG")
        command.add_argument("--state-dir", metavar="DIR", help="where everything is kept (made 0700)")
        command.add_argument("--listen", metavar="HOST:PORT", help="default 127.0.0.1:7070; port 0 takes a free one")
        command.add_argument(
            "--insecure", action="store_true", default=None, help="plain text on an address that other hosts can reach"
        )
        command.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
        command.add_argument("--log-format", choices=["auto", "json", "console"])
    return parser


def _flags(arguments: argparse.Namespace) -> dict[str, str | bool | None]:
    names = ("state_dir", "listen", "insecure", "log_level", "log_format")
    return {name: getattr(arguments, name, None) for name in names}


if __name__ == "__main__":
    sys.exit(main())
