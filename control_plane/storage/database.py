"""The door to the database: `write` and `read` take a function of a connection and run it off the event loop."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from control_plane.storage import sqlite
from control_plane.storage.following import Follower, Stir
from control_plane.storage.schema import DatabaseUnreadable, migrate
from control_plane.storage.sqlite import DATABASE_NAME, CannotOpen
from control_plane.storage.writer import Verb, Writer, refusal

__all__ = ["DATABASE_NAME", "CannotOpen", "Connection", "Database", "Statistics"]

T = TypeVar("T")
# What is to be stored beside a verb's own changes, from the verb's result.
Beside = Callable[[Connection, object], None]

MAX_WAITING_WRITES: Final = 4096
MAX_WAITING_READS: Final = 1024


class Monotonic(Protocol):
    """The part of the clock that storage needs."""

    def monotonic_s(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counts since the start; `waiting` is the present length of the writer's queue."""

    transactions: int
    commits: int
    verbs: int
    refused: int
    failed: int
    reruns: int
    # Transactions that ran again because a verb was refused after it had written something.
    undone: int
    largest_batch: int
    reads: int
    waiting: int
    by_name: dict[str, int]


class Database:
    """One SQLite file in a state directory that this process owns."""

    def __init__(self, *, path: Path, lock: sqlite.StateLock, engines: sqlite.Engines, clock: Monotonic) -> None:
        self.path = path
        self._lock = lock
        self._engines = engines
        self._clock = clock
        self._connection = engines.writer.connect()
        self._writer = Writer(
            self._connection, judge=sqlite.judge, changes=sqlite.changes, monotonic_s=clock.monotonic_s
        )
        self._readers = ThreadPoolExecutor(sqlite.READERS, thread_name_prefix="storage-reader")
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._reader_connections = [engines.readers.connect() for _ in range(sqlite.READERS)]
        for connection in self._reader_connections:
            self._idle.put(connection)
        self._write_room = asyncio.Semaphore(MAX_WAITING_WRITES)
        self._read_room = asyncio.Semaphore(MAX_WAITING_READS)
        self._reads = 0
        self._closed = False
        # Asked on the loop with each write. What it gives runs behind the verb as a part of it: both or neither.
        self.witness: Callable[[], Beside | None] = _nobody

    @classmethod
    def open(cls, state_directory: Path, clock: Monotonic) -> Database:
        """Opens, and migrates if it is older, the database in `state_directory` (made 0700 when absent).

        Raises CannotOpen: StateDirectoryInUse, DatabaseTooNew, DatabaseUnreadable.
        """
        state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = sqlite.StateLock(state_directory)
        path = state_directory / sqlite.DATABASE_NAME
        try:
            engines = sqlite.open_engines(path)
            try:
                if damage := sqlite.check(engines.readers, path):
                    raise DatabaseUnreadable(_unreadable(path, damage))
                migrate(engines.writer)
                return cls(path=path, lock=lock, engines=engines, clock=clock)
            except DBAPIError as error:
                engines.dispose()
                raise DatabaseUnreadable(_unreadable(path, str(error.orig))) from error
            except BaseException:
                engines.dispose()
                raise
        except BaseException:
            lock.release()
            raise

    async def write(
        self,
        body: Callable[[Connection], T],
        *,
        name: str = "",
        after: Callable[[T], None] | None = None,
        stirs: Stir = Stir.NOTHING,
        patient: bool = False,
    ) -> T:
        """Runs `body` in the writer's thread and returns its result once it is committed.

        Up to 64 waiting bodies share a transaction. What `body` raises undoes its own changes only and is raised
        here. `body` may run more than once before it counts, so it must change nothing but the database. `after`
        gets the result on the loop right after the commit, also if this call has been cancelled meanwhile. With
        `stirs` the follower, if there is one, runs behind it in the same transaction. If `patient`, it waits some
        milliseconds for others to share a commit with.
        Raises ResourceExhausted (disk full) and Unavailable (the database failed); nothing was stored then.
        """
        beside = self.witness()
        if beside is not None:
            body = _both(body, beside)
        return await self._submit(body, name=name, after=after, bare=False, stirs=stirs, patient=patient)

    @property
    def follower(self) -> Follower | None:
        """Who follows the verbs that stir something."""
        return self._writer.follower

    @follower.setter
    def follower(self, follower: Follower | None) -> None:
        self._writer.follower = follower

    async def read(self, body: Callable[[Connection], T]) -> T:
        """Runs `body` in a reader's thread on one snapshot; the connection cannot write."""
        async with self._read_room:
            self._refuse_if_closed()
            self._reads += 1
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, body)

    async def tidy(self) -> None:
        """Shrinks the write-ahead log and refreshes the planner's statistics."""
        await self._submit(sqlite.tidy, name="tidy", after=None, bare=True)

    async def close(self) -> None:
        """Finishes what was submitted, closes the files, gives the state directory back. May be called twice."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._shut)

    def statistics(self) -> Statistics:
        counters = self._writer.counters
        return Statistics(
            transactions=counters.transactions,
            commits=counters.commits,
            verbs=counters.verbs,
            refused=counters.refused,
            failed=counters.failed,
            reruns=counters.reruns,
            undone=counters.undone,
            largest_batch=counters.largest_batch,
            reads=self._reads,
            waiting=self._writer.depth(),
            by_name=dict(counters.by_name),
        )

    def size_bytes(self) -> int:
        return sqlite.size_bytes(self.path)

    async def _submit(
        self,
        body: Callable[[Connection], T],
        *,
        name: str,
        after: Callable[[T], None] | None,
        bare: bool,
        stirs: Stir = Stir.NOTHING,
        patient: bool = False,
    ) -> T:
        async with self._write_room:
            self._refuse_if_closed()
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Any] = loop.create_future()
            self._writer.submit(
                Verb(
                    body=body,
                    name=name,
                    loop=loop,
                    future=future,
                    after=after,
                    bare=bare,
                    stirs=stirs,
                    patient=patient,
                )
            )
            try:
                result: T = await future
            finally:
                # What it raises knows this frame: see the writer.
                del future
            return result

    def _read(self, body: Callable[[Connection], T]) -> T:
        connection = self._idle.get()
        try:
            with connection.begin():
                return body(connection)
        except DBAPIError as error:
            trouble = sqlite.judge(error)
            if trouble is sqlite.Trouble.VERB:
                raise
            if trouble is sqlite.Trouble.BROKEN:
                connection.invalidate()
            raise refusal(trouble, error) from error
        finally:
            self._idle.put(connection)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("the database is closed")

    def _shut(self) -> None:
        self._writer.stop()
        self._readers.shutdown(wait=True)
        for connection in (*self._reader_connections, self._connection):
            connection.close()
        self._engines.dispose()
        self._lock.release()


def _nobody() -> Beside | None:
    return None


def _both(body: Callable[[Connection], T], beside: Beside) -> Callable[[Connection], T]:
    def run(connection: Connection) -> T:
        result = body(connection)
        beside(connection, result)
        return result

    return run


def _unreadable(path: Path, damage: str) -> str:
    return (
        f"{path} cannot be used as a database: {damage}; restore a backup (and say `banksman-server restored`), or"
        f" salvage what can be read: sqlite3 {path} .recover | sqlite3 new.db"
    )
