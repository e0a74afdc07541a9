"""One call of the program: what its flags said, its streams, and the doors that it opens when they are needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import click

from control_plane.cli.client import DEADLINE_S, Client, open_channel
from control_plane.cli.clock import Clock, SystemClock
from control_plane.cli.plain import plain
from control_plane.cli.target import Target, Wanted, resolve

if TYPE_CHECKING:
    import grpc

    from control_plane.cli.output import Printer

FORMATS = ("table", "json", "jsonl", "yaml", "name")


@dataclass(slots=True, kw_only=True)
class Invocation:
    """Lives as click's context object; tests give one with their own channel, clock and environment."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Clock = field(default_factory=SystemClock)
    connect: Callable[[Target], grpc.Channel] = open_channel
    flags: dict[str, object] = field(default_factory=dict)
    _client: Client | None = None

    def wanted(self) -> Wanted:
        """The connection flags, typed."""
        return Wanted(
            url=self.text_flag("url"),
            token=self.text_flag("token"),
            context=self.text_flag("context"),
            project=self.text_flag("project"),
            insecure=True if self.flags.get("insecure") else None,
        )

    def text_flag(self, name: str) -> str | None:
        value = self.flags.get(name)
        return value if isinstance(value, str) else None

    @property
    def debug(self) -> bool:
        return bool(self.flags.get("debug"))

    @property
    def output(self) -> str:
        return self.text_flag("output") or "table"

    @property
    def client(self) -> Client:
        """The client, made at first use."""
        if self._client is None:
            self._client = self.client_for(resolve(self.wanted(), self.environ))
        return self._client

    def client_for(self, target: Target) -> Client:
        """A client of another target than the flags', with the flags' deadline."""
        deadline = self.flags.get("rpc_timeout")
        deadline_s = deadline if isinstance(deadline, float) else DEADLINE_S
        return Client(self.connect(target), target, self.clock, deadline_s=deadline_s)

    @property
    def project(self) -> str:
        """The project to name in requests; empty means the control plane's default."""
        return self.client.target.project

    @property
    def printer(self) -> Printer:
        from control_plane.cli.output import Printer, color_wanted

        terminal = sys.stdout.isatty()
        return Printer(
            form=self.output,
            stream=sys.stdout,
            terminal=terminal,
            color=terminal and color_wanted(self.environ),
            now=self.clock.now,
        )

    def say(self, text: str) -> None:
        """One line of ours, on stderr."""
        click.echo(plain(text), err=True)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def invocation(ctx: click.Context) -> Invocation:
    """The call's own Invocation, made when the first option is parsed."""
    return ctx.find_root().ensure_object(Invocation)


def stdout_bytes() -> BinaryIO:
    """Standard output for bytes as they are."""
    return sys.stdout.buffer


def stderr_bytes() -> BinaryIO:
    return sys.stderr.buffer


def discard_closed_outputs() -> None:
    """Point an output whose reader has gone at nothing, so that the interpreter's last flush stays silent."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
