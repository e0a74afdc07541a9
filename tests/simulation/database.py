"""The product's storage on a database in memory: its writer, verbs and statements, without threads and files."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, StaticPool, create_engine, event

from control_plane.storage import sqlite
from control_plane.storage.database import Database
from control_plane.storage.following import Stir
from control_plane.storage.schema import migrate
from control_plane.storage.writer import Counters, Verb, Writer
from tests.simulation.loop import Crashed, Life

T = TypeVar("T")
_blank: bytes = b""


class _NothingWaits(BaseException):
    """The writer has nothing more to do."""


class _Verbs(queue.SimpleQueue[Any]):
    """The writer's queue: where its thread would wait, it stops."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self.get_nowait()
        except queue.Empty:
            raise _NothingWaits from None


class Watcher(Protocol):
    """Sees every move before it is committed, and every commit."""

    def noticed(self, what: str, run_id: str, epoch: int, was: str, now: str) -> None: ...

    def committed(self) -> None: ...

    def undone(self) -> None: ...


@dataclass
class Store:
    """The file of the database: it outlives servers."""

    driver: sqlite3.Connection
    engine: Engine

    @classmethod
    def make(cls, watcher: Watcher) -> Store:
        driver = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None, cached_statements=512)
        engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool, pool_reset_on_return=None)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        _fill(driver, engine)
        driver.execute("PRAGMA temp_store=MEMORY")
        driver.execute("PRAGMA foreign_keys=ON")
        driver.create_function("noticed", 5, lambda *told: watcher.noticed(*told))
        for trigger in TRIGGERS:
            driver.execute(trigger)
        return cls(driver=driver, engine=engine)

    def close(self) -> None:
        self.engine.dispose()
        self.driver.close()


def _fill(driver: sqlite3.Connection, engine: Engine) -> None:
    """All tables, migrated once per process."""
    global _blank
    if _blank:
        driver.deserialize(_blank)
        return
    migrate(engine)
    _blank = driver.serialize()


TRIGGERS = (
    """CREATE TEMP TRIGGER run_moved AFTER UPDATE ON main.runs
       WHEN OLD.state IS NOT NEW.state OR OLD.lease_epoch IS NOT NEW.lease_epoch
         OR OLD.cancel_requested_at IS NOT NEW.cancel_requested_at
       BEGIN SELECT noticed('run', NEW.id, NEW.lease_epoch,
         OLD.state || '|' || OLD.lease_epoch || '|' || (OLD.cancel_requested_at IS NOT NULL),
         NEW.state || '|' || NEW.lease_epoch || '|' || (NEW.cancel_requested_at IS NOT NULL)); END""",
    """CREATE TEMP TRIGGER attempt_moved AFTER UPDATE ON main.attempts
       WHEN OLD.state IS NOT NEW.state
       BEGIN SELECT noticed('attempt', NEW.run_id, NEW.lease_epoch, OLD.state,
         NEW.state || '|' || (SELECT lease_epoch FROM runs WHERE id = NEW.run_id) || '|' || COALESCE(NEW.reason, '')
         || '|' || NEW.exit_stored); END""",
    """CREATE TEMP TRIGGER attempt_born AFTER INSERT ON main.attempts
       BEGIN SELECT noticed('born', NEW.run_id, NEW.lease_epoch, '',
         (SELECT COUNT(*) FROM attempts WHERE run_id = NEW.run_id
          AND state IN ('OFFERED', 'STARTING', 'RUNNING', 'STOPPING'))); END""",
    """CREATE TEMP TRIGGER kill_proven AFTER UPDATE ON main.attempts
       WHEN NEW.kill_confirmed AND NOT OLD.kill_confirmed
       BEGIN SELECT noticed('kill', NEW.run_id, NEW.lease_epoch, '', ''); END""",
    """CREATE TEMP TRIGGER run_kill_proven AFTER UPDATE ON main.runs
       WHEN NEW.kill_confirmed AND NOT OLD.kill_confirmed
       BEGIN SELECT noticed('run_kill', NEW.id, NEW.lease_epoch, '', ''); END""",
    """CREATE TEMP TRIGGER log_sealed AFTER UPDATE ON main.attempts
       WHEN NEW.log_sealed_at IS NOT NULL AND OLD.log_sealed_at IS NULL
       BEGIN SELECT noticed('seal', NEW.run_id, NEW.lease_epoch, '', NEW.log_complete); END""",
)


class SimWriter(Writer):
    """The product's writer without its thread: `work` does what the thread would do until it waits."""

    def __init__(self, connection: Connection, *, monotonic_s: Callable[[], float]) -> None:
        self._connection = connection
        self._judge, self._changes = sqlite.judge, sqlite.changes
        self._monotonic_s = monotonic_s
        self._queue = _Verbs()
        self._next: Verb | None = None
        self._stopping = False
        self.counters = Counters()
        self.follower = None

    def work(self) -> None:
        try:
            self._work()
        except _NothingWaits:
            return


class SimDatabase(Database):
    """One server's hold on the store. Latency and crashes lie between a verb's call, its commit and its answer."""

    def __init__(
        self,
        store: Store,
        life: Life,
        latency_s: Callable[[], float],
        watcher: Watcher,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._store, self._life, self._latency_s, self._watcher = store, life, latency_s, watcher
        # Nothing is kept beside the database: there is no such directory.
        self.path = Path("/dev/null/banksman.db")
        self._sim_connection = store.engine.connect()
        self._writer = SimWriter(self._sim_connection, monotonic_s=monotonic_s)
        self._working = self._writing = False
        self._due: tuple[Any, ...] | None = None
        event.listen(self._sim_connection, "commit", self._commits)

    def _commits(self, connection: Connection) -> None:
        """The last moment before the commit: whoever was answered too early has heard it by now."""
        if self._writing:
            self._life.point("inside commit", race=True)

    async def write(
        self,
        body: Callable[[Connection], T],
        *,
        name: str = "",
        after: Callable[[T], None] | None = None,
        stirs: Stir = Stir.NOTHING,
        patient: bool = False,
    ) -> T:
        loop = self._life.loop
        future: asyncio.Future[Any] = loop.create_future()
        self._writer.submit(Verb(body=body, name=name, loop=loop, future=future, after=after, stirs=stirs))
        if not self._working:
            self._working = True
            self._life.later(self._latency_s(), self._commit, name)
        result: T = await future
        return result

    def _commit(self, name: str) -> None:
        """One group commit: what has come by now shares it."""
        self._working = False
        self._life.point(f"before commit:{name}")
        ready = self._life.loop.ready
        waiting = len(ready)
        self._writing = True
        try:
            self._writer.work()
        except Crashed:
            if self._store.driver.in_transaction:
                self._store.driver.execute("ROLLBACK")
            self._watcher.undone()
            raise
        finally:
            self._writing = False
        self._due = None
        self._watcher.committed()
        answers = [ready.pop() for _ in range(len(ready) - waiting)]
        try:
            self._life.point(f"after commit:{name}")
        except Crashed:
            return
        ready.extend(reversed(answers))

    def next_due(self) -> int | None:
        """When a wall clock next concerns a run (microseconds); looked up only when something was written."""
        if self._due is None:
            query = "SELECT MIN(due_at) FROM runs WHERE due_at IS NOT NULL"
            self._due = self._store.driver.execute(query).fetchone()
        due: int | None = self._due[0]
        return due

    async def read(self, body: Callable[[Connection], T]) -> T:
        if self._writing:
            # The writer's thread is about to be killed in its commit: nobody lives to see an answer.
            await self._life.loop.create_future()
        with self._sim_connection.begin():
            return body(self._sim_connection)

    async def tidy(self) -> None:
        return None

    async def close(self) -> None:
        self._sim_connection.close()
