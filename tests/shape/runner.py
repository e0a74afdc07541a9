"""The real agent, which counts what it does: `python -m tests.shape.runner run ...`.

    agent.sync               files synced
    agent.said WORD          messages to the control plane
    agent.bytes WORD         their bytes
    agent.records            pieces of logs in them

Its fork server counts too, with its shims as `host.sync`.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from banksman.v1 import session_pb2

from runner_agent import __main__ as program
from runner_agent.execution import shim_link
from runner_agent.session.session import Session
from tests.shape.tally import FILE, count, count_syncs

_PRODUCT = "from runner_agent.shim.fork_server import main"
_COUNTING = "from tests.shape.fork_server import main"


def install() -> None:
    """Count from here on."""
    count_syncs("agent")
    _in_session()
    _in_fork_server()


class _Told:
    """A call that counts each message."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def write(self, message: bytes) -> None:
        meant = session_pb2.SessionRequest.FromString(message)
        word = meant.WhichOneof("message")
        count(f"agent.said {word}")
        count(f"agent.bytes {word}", len(message))
        if word == "log_chunk":
            count("agent.records", len(meant.log_chunk.records))
        await self._call.write(message)


def _in_session() -> None:
    begin = Session.__init__

    def begun(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self._call = _Told(self._call)

    Session.__init__ = begun


def _in_fork_server() -> None:
    execute, environment = asyncio.create_subprocess_exec, shim_link._spawn_environment

    async def executed(*words: Any, **options: Any) -> Any:
        counting = [word.replace(_PRODUCT, _COUNTING) if isinstance(word, str) else word for word in words]
        return await execute(*counting, **options)

    asyncio.create_subprocess_exec = executed
    shim_link._spawn_environment = lambda: {**environment(), FILE: os.environ[FILE]}


def run(arguments: Sequence[str] | None = None) -> int:
    """The product's own main, counting."""
    install()
    return program.main(arguments)


if __name__ == "__main__":
    sys.exit(run())
