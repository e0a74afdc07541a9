"""The bare floor: the least that gives a command to another process over a gRPC stream and keeps what came back.

One server with SQLite (WAL, synchronous=FULL, group commit in one thread) and one runner with plain asyncio
subprocesses. It commits when a run is submitted, started, asked to stop and finished, and syncs the log before the
last of these. It has no journal on the runner, no shim, no leases, no tokens, no retries, no masks and no offsets:
what the product costs above it is what these cost.

    python -m tests.bench.floor server DIRECTORY    prints its port
    python -m tests.bench.floor runner PORT SLOTS
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import asyncio
import json
import pathlib
import queue
import signal
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc

SERVICE = "floor.Floor"
CHUNK_BYTES = 262_144
OPTIONS = (("grpc.so_reuseport", 0),)


class Store:
    """SQLite behind one writer thread: whatever waits when a commit ends goes into the next one."""

    def __init__(self, path: pathlib.Path, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: queue.SimpleQueue[tuple[str, tuple[Any, ...], asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, args=(path,), name="writer", daemon=True)
        self._thread.start()

    def execute(self, statement: str, *values: Any) -> asyncio.Future[None]:
        """Done when it is committed."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((statement, values, done))
        return done

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _write(self, path: pathlib.Path) -> None:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE run (id TEXT PRIMARY KEY, spec TEXT, state TEXT, code INT, bytes INT)")
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < 64 and not self._waiting.empty():
                if (more := self._waiting.get()) is None:
                    self._waiting.put(None)
                    break
                batch.append(more)
            database.execute("BEGIN IMMEDIATE")
            for statement, values, _ in batch:
                database.execute(statement, values)
            database.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._answer, [done for _, _, done in batch])
        database.close()

    @staticmethod
    def _answer(futures: list[asyncio.Future[None]]) -> None:
        for done in futures:
            if not done.cancelled():
                done.set_result(None)


class Session:
    """A runner's stream: what is to be sent, and how many runs it takes."""

    def __init__(self) -> None:
        self.to_runner: asyncio.Queue[bytes] = asyncio.Queue()
        self.free = 0


class Server:
    """A queue, its runners, a log file per run that printed something."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._store = Store(directory / "floor.db", asyncio.get_running_loop())
        self._queue: deque[tuple[str, str]] = deque()
        self._paused = False
        self._sessions: list[Session] = []
        self._holders: dict[str, Session] = {}
        self._finished: dict[str, asyncio.Future[int]] = {}
        self._logs: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._left = 0
        self._idle = asyncio.Event()
        self._number = 0

    async def submit(self, request: bytes, _: Any) -> bytes:
        self._number += 1
        run = str(self._number)
        self._left += 1
        self._idle.clear()
        self._finished[run] = asyncio.get_running_loop().create_future()
        argv = request.decode()
        await self._store.execute("INSERT INTO run (id, spec, state) VALUES (?, ?, 'QUEUED')", run, argv)
        self._queue.append((run, argv))
        self._dispatch()
        return run.encode()

    async def wait(self, request: bytes, _: Any) -> bytes:
        return str(await self._finished[request.decode()]).encode()

    async def cancel(self, request: bytes, _: Any) -> bytes:
        await self._store.execute("UPDATE run SET state='CANCELLING' WHERE id=?", request.decode())
        if holder := self._holders.get(request.decode()):
            holder.to_runner.put_nowait(b"s" + request)
        return b""

    async def control(self, request: bytes, _: Any) -> bytes:
        """pause, resume, or idle: answers when nothing is left."""
        match request:
            case b"pause" | b"resume":
                self._paused = request == b"pause"
                self._dispatch()
            case b"idle":
                await self._idle.wait()
        return b""

    def _dispatch(self) -> None:
        while self._queue and self._sessions and not self._paused:
            session = max(self._sessions, key=lambda one: one.free)
            if not session.free:
                return
            run, argv = self._queue.popleft()
            session.free -= 1
            self._holders[run] = session
            session.to_runner.put_nowait(b"r" + json.dumps([run, argv]).encode())

    async def session(self, messages: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        session = Session()
        self._sessions.append(session)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._read(session, messages, tasks), name="reader")
            try:
                while True:
                    yield await session.to_runner.get()
            finally:
                reader.cancel()

    async def _read(self, session: Session, messages: AsyncIterator[bytes], tasks: asyncio.TaskGroup) -> None:
        async for message in messages:
            kind, body = message[:1], message[1:]
            if kind == b"l":
                run, data = body[:16].rstrip().decode(), body[16:]
                self._append(run, data)
            elif kind == b"h":
                session.free += int(body)
                self._dispatch()
            elif kind == b"b":
                tasks.create_task(self._started(body.decode()), name="started")
            else:
                run, code = json.loads(body)
                tasks.create_task(self._ended(run, code), name="ended")

    async def _started(self, run: str) -> None:
        await self._store.execute("UPDATE run SET state='RUNNING' WHERE id=? AND state='QUEUED'", run)

    def _append(self, run: str, data: bytes) -> None:
        log = self._logs.get(run)
        if log is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            log = self._logs[run] = os.open(self._directory / f"{run}.log", flags, 0o600)
        self._sizes[run] = self._sizes.get(run, 0) + os.write(log, data)

    async def _ended(self, run: str, code: int) -> None:
        if (log := self._logs.pop(run, None)) is not None:
            await asyncio.to_thread(os.fdatasync, log)
            os.close(log)
        size = self._sizes.pop(run, 0)
        await self._store.execute("UPDATE run SET state='ENDED', code=?, bytes=? WHERE id=?", code, size, run)
        self._holders.pop(run).free += 1
        self._left -= 1
        if not self._left:
            self._idle.set()
        self._finished[run].set_result(size)
        self._dispatch()


async def serve(directory: pathlib.Path) -> None:
    server, floor = grpc.aio.server(options=OPTIONS), Server(directory)
    unary = {"Submit": floor.submit, "Wait": floor.wait, "Cancel": floor.cancel, "Control": floor.control}
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(call) for name, call in unary.items()
    }
    methods["Session"] = grpc.stream_stream_rpc_method_handler(floor.session)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


class Runner:
    def __init__(self) -> None:
        self._to_server: asyncio.Queue[bytes] = asyncio.Queue(64)
        self._live: dict[str, asyncio.subprocess.Process] = {}
        # Stops that came while their process was being started: a child may print before its start has returned.
        self._stops: set[str] = set()

    async def messages(self) -> AsyncIterator[bytes]:
        while True:
            yield await self._to_server.get()

    async def serve(self, port: int, slots: int) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.TaskGroup() as tasks:
            await self._to_server.put(b"h%d" % slots)
            session: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{SERVICE}/Session")
            async for message in session(self.messages()):
                if message[:1] == b"s":
                    self._stop(message[1:].decode())
                else:
                    run, argv = json.loads(message[1:])
                    tasks.create_task(self._execute(run, json.loads(argv)), name=f"run-{run}")

    def _stop(self, run: str) -> None:
        if process := self._live.get(run):
            process.send_signal(signal.SIGTERM)
        else:
            self._stops.add(run)

    async def _execute(self, run: str, argv: list[str]) -> None:
        pipe, error = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=error, limit=1 << 20
        )
        self._live[run] = process
        if run in self._stops:
            self._stop(run)
        await self._to_server.put(b"b" + run.encode())
        assert process.stdout is not None
        name = b"l" + run.encode().ljust(16)
        while data := await process.stdout.read(CHUNK_BYTES):
            await self._to_server.put(name + data)
        code = await process.wait()
        del self._live[run]
        await self._to_server.put(b"e" + json.dumps([run, code]).encode())


def main(arguments: list[str]) -> None:
    match arguments:
        case ["server", directory]:
            asyncio.run(serve(pathlib.Path(directory)))
        case ["runner", port, slots]:
            asyncio.run(Runner().serve(int(port), int(slots)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
