"""Bytes that the caller gives: piped standard input, scripts, secret values and tokens."""

from __future__ import annotations

import os
import select
import stat
import sys
from pathlib import Path

import click

from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation

STDIN_LIMIT_BYTES = 1 << 20
SECRET_LIMIT_BYTES = 64 << 10
PATIENCE_S = 2.0


def piped_stdin(inv: Invocation, wanted: bool | None) -> bytes:
    """Standard input for the child: a pipe or a file unless refused, a terminal only when asked for.

    Raises CliError when there is more than 1 MiB of it.
    """
    if wanted is False or (wanted is None and not is_piped()):
        return b""
    if is_slow_pipe():
        inv.say("banksman: waiting for the end of standard input, which the run gets (--no-stdin gives it none)")
    data = sys.stdin.buffer.read(STDIN_LIMIT_BYTES + 1)
    if len(data) > STDIN_LIMIT_BYTES:
        raise CliError("standard input is longer than 1 MiB, the most that a run gets", reason="STDIN_TOO_LONG")
    return data


def is_piped() -> bool:
    """Whether somebody meant to give input: a pipe, a socket or a file, but neither a terminal nor /dev/null."""
    mode = stdin_mode()
    if mode is None:
        return sys.stdin is not None and not sys.stdin.closed and not sys.stdin.isatty()
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def is_slow_pipe() -> bool:
    """Whether nothing comes for a while from a pipe that somebody may have forgotten to close."""
    mode = stdin_mode()
    if mode is None or stat.S_ISREG(mode):
        return False
    return not select.select([sys.stdin.fileno()], [], [], PATIENCE_S)[0]


def stdin_mode() -> int | None:
    """The file mode behind standard input; None when there is no file descriptor."""
    try:
        return os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return None


def read_script(path: str) -> str:
    """A script's text from a file, or from standard input for "-". Raises CliError when it is no text or too long."""
    try:
        data = sys.stdin.buffer.read(STDIN_LIMIT_BYTES + 1) if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CliError(f"cannot read the script {path}", cause=error.strerror or str(error)) from error
    if len(data) > STDIN_LIMIT_BYTES:
        raise CliError(f"the script {path} is longer than 1 MiB", reason="SCRIPT_TOO_LONG")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CliError(f"the script {path} is not UTF-8 text", cause=str(error)) from error


def read_secret(path: str | None, prompt: str) -> bytes:
    """A secret value: a file's bytes as they are, a hidden prompt, or standard input without its last newline."""
    if path is not None and path != "-":
        try:
            return limited(Path(path).read_bytes())
        except OSError as error:
            raise CliError(f"cannot read {path}", cause=error.strerror or str(error)) from error
    if sys.stdin.isatty():
        typed: str = click.prompt(prompt, hide_input=True, err=True)
        return typed.encode("utf-8", errors="surrogateescape")
    data = limited(sys.stdin.buffer.read(SECRET_LIMIT_BYTES + 3))
    return data.removesuffix(b"\n").removesuffix(b"\r")


def limited(data: bytes) -> bytes:
    if len(data) > SECRET_LIMIT_BYTES + 2:
        raise CliError("the value is longer than 64 KiB", reason="SECRET_TOO_LONG")
    return data


def read_token(*, from_stdin: bool) -> str:
    """An API token from standard input or a hidden prompt."""
    if not from_stdin and not sys.stdin.isatty():
        raise CliError("there is no terminal to ask for the token", next_command="banksman login --token-stdin < FILE")
    token = read_secret("-" if from_stdin else None, "Token").decode("utf-8", errors="replace").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise CliError("that is no token: it is empty or holds more than printable ASCII")
    return token
