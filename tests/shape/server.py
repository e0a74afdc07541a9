"""The real control plane, which counts what it does: `python -m tests.shape.server serve ...`.

server.commit            transactions that were committed
server.verb NAME         verbs in them
server.sync              files synced besides the database
server.said WORD         messages to runners
server.acked             bytes of logs that they say are stored
query METHOD             statements of a call
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import sqlite3
import sqlite3.dbapi2
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from control_plane.__main__ import main
from control_plane.api import runner_session
from control_plane.api.interceptors import Gate
from control_plane.storage.database import Database
from tests.shape.tally import count, count_syncs

# The call that is served, on the loop; and the one that a storage thread works for.
_method: ContextVar[str] = ContextVar("method", default="")
_asking = threading.local()
# Statements that only hold a transaction together.
FRAME = ("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "PRAGMA")


def install() -> None:
    """Count from here on."""
    count_syncs("server")
    _in_sqlite()
    _in_storage()
    _in_streams()
    _in_calls()


def _in_sqlite() -> None:
    connect = sqlite3.connect

    def connected(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **named)
        connection.set_trace_callback(_executed)
        return connection

    sqlite3.dbapi2.connect = sqlite3.connect = connected


def _executed(statement: str) -> None:
    if statement.startswith("COMMIT"):
        # A reader ends its snapshot so too.
        if getattr(_asking, "writes", False):
            count("server.commit")
    elif (method := getattr(_asking, "method", "")) and not statement.startswith(FRAME):
        count(f"query {method}")


def _in_storage() -> None:
    write, read = Database.write, Database.read

    async def written(
        self: Database,
        body: Callable[[Any], Any],
        *,
        name: str = "",
        after: Callable[[Any], None] | None = None,
        **more: Any,
    ) -> Any:
        def counted(conn: Any) -> Any:
            count(f"server.verb {name}")
            return _for(method, body, conn, writes=True)

        method = _method.get()
        return await write(self, counted, name=name, after=after, **more)

    async def been_read(self: Database, body: Callable[[Any], Any]) -> Any:
        method = _method.get()
        return await read(self, lambda conn: _for(method, body, conn, writes=False))

    Database.write, Database.read = written, been_read


def _for(method: str, body: Callable[[Any], Any], conn: Any, *, writes: bool) -> Any:
    # `writes` stays: the commit comes after the body, in the same thread.
    _asking.method, _asking.writes = method, writes
    try:
        return body(conn)
    finally:
        _asking.method = ""


class _Told:
    """A stream's context that counts each message."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._acked: dict[bytes, int] = {}

    async def write(self, message: Any) -> None:
        word = message.WhichOneof("message")
        count(f"server.said {word}")
        if word == "log_ack":
            key, offset = message.log_ack.key.SerializeToString(), message.log_ack.committed_offset
            count("server.acked", offset - self._acked.get(key, 0))
            self._acked[key] = offset
        await self._context.write(message)


def _in_streams() -> None:
    begin = runner_session.Stream.__init__

    def begun(self: Any, caller: Any, context: Any, *rest: Any) -> None:
        begin(self, caller, context, *rest)
        self._context = _Told(context)

    runner_session.Stream.__init__ = begun


def _in_calls() -> None:
    coroutine, generator = Gate._coroutine, Gate._generator

    def named(self: Gate, behaviour: Any, method: str, metadata: Any) -> Any:
        call = coroutine(self, behaviour, method, metadata)

        async def counted(request: Any, context: Any) -> Any:
            _method.set(method.rpartition("/")[2])
            count(f"call {_method.get()}")
            return await call(request, context)

        return counted

    def named_stream(self: Gate, behaviour: Any, method: str, metadata: Any) -> Any:
        call = generator(self, behaviour, method, metadata)

        async def counted(request: Any, context: Any) -> Any:
            _method.set(method.rpartition("/")[2])
            async for item in call(request, context):
                yield item

        return counted

    Gate._coroutine, Gate._generator = named, named_stream


def run(arguments: Sequence[str] | None = None) -> int:
    """The product's own main, counting."""
    install()
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run())
