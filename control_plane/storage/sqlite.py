"""The only file that assumes SQLite: opening, locking, pragmas, judging its errors, tidying up."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, Engine, Pool, QueuePool, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from control_plane.storage.prepared import Prepared

LOCK_NAME = "server.lock"
DATABASE_NAME = "banksman.db"
READERS = 4
BUSY_TIMEOUT_MS = 5_000
# About a second's reading.
CHECKED_BYTES = 256 << 20
TIDY_WAITS_MS = 50
CHECKPOINT_PAGES = 4_000

_COMMON_PRAGMAS = (f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}", "PRAGMA foreign_keys=ON", "PRAGMA temp_store=MEMORY")
_WRITER_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # FULL syncs the write-ahead log at each commit: an answered write survives a power loss. Group commit pays for it.
    "PRAGMA synchronous=FULL",
    # A fourth of the syncs and copies of checkpoints; 16 MiB more to read after a crash.
    f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA cache_size=-32768",
)
_BEGIN_IMMEDIATE = Prepared(text("BEGIN IMMEDIATE"))
_BEGIN = Prepared(text("BEGIN"))
_READER_PRAGMAS = ("PRAGMA query_only=ON", "PRAGMA cache_size=-8192")

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_BROKEN = frozenset(
    {
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)


class Trouble(StrEnum):
    """Whose fault a database error is, and so what happens to the verbs that share its transaction."""

    VERB = "VERB"  # the statement's own (a constraint, a syntax error): the others go on
    BUSY = "BUSY"  # run all of them again
    FULL = "FULL"  # no room on the disk: fail all of them
    BROKEN = "BROKEN"  # fail all of them


class CannotOpen(Exception):
    """The database cannot be used; the text says why and what to do."""


class StateDirectoryInUse(CannotOpen):
    """Another server holds the state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """Where connections come from: one that writes, and a few that can only read."""

    writer: Engine
    readers: Engine

    def dispose(self) -> None:
        self.readers.dispose()
        self.writer.dispose()


class StateLock:
    """An exclusive lock on a state directory, held until released or until the process ends."""

    def __init__(self, directory: Path) -> None:
        """Raises StateDirectoryInUse, with the holder's process id in the message."""
        path = directory / LOCK_NAME
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            who = f"process {holder}" if holder else "another process"
            raise StateDirectoryInUse(f"{directory} is in use by {who}; one server owns a state directory") from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        os.close(self._fd)


def open_engines(path: Path) -> Engines:
    """Engines on the database file at `path`, which is made (0600) when it is not there."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    url = URL.create("sqlite", database=str(path))
    # Parameters stay out of error texts: they may be what a user typed.
    writer = create_engine(url, poolclass=QueuePool, hide_parameters=True, pool_size=1, max_overflow=0)
    readers = create_engine(url, poolclass=QueuePool, hide_parameters=True, pool_size=READERS, max_overflow=0)
    _prepare(writer.pool, (*_COMMON_PRAGMAS, *_WRITER_PRAGMAS))
    _prepare(readers.pool, (*_COMMON_PRAGMAS, *_READER_PRAGMAS))
    # A deferred BEGIN that later writes fails with "database is locked" and no timeout helps; IMMEDIATE waits instead.
    event.listen(writer, "begin", _begin_immediate)
    event.listen(readers, "begin", _begin_deferred)
    return Engines(writer=writer, readers=readers)


def _prepare(pool: Pool, pragmas: tuple[str, ...]) -> None:
    def connected(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transaction control stays out of the way: BEGIN is written by us.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma)

    event.listen(pool, "connect", connected)


def _begin_immediate(connection: Connection) -> None:
    _BEGIN_IMMEDIATE.run(connection)


def _begin_deferred(connection: Connection) -> None:
    _BEGIN.run(connection)


def changes(connection: Connection) -> int:
    """How many rows this connection has written since it was opened, also in what was undone.

    Raises RuntimeError outside a transaction: then somebody has ended the one that others share.
    """
    driver = _driver(connection)
    if not driver.in_transaction:
        raise RuntimeError("the transaction was ended by one of its verbs")
    return driver.total_changes


def judge(error: DBAPIError) -> Trouble:
    """Whose fault `error` is."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if not isinstance(code, int):
        return Trouble.VERB
    primary = code & 0xFF
    if primary in _BUSY:
        return Trouble.BUSY
    if primary == sqlite3.SQLITE_FULL:
        return Trouble.FULL
    return Trouble.BROKEN if primary in _BROKEN else Trouble.VERB


def check(engine: Engine, path: Path) -> str:
    """What is damaged in the database, in SQLite's words; empty when nothing was found.

    A large one is only looked at where it is read: a whole look would keep runners waiting.
    """
    if size_bytes(path) > CHECKED_BYTES:
        return ""
    with engine.connect() as connection:
        first = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    return "" if first == "ok" else " ".join(str(first).split())


def tidy(connection: Connection) -> None:
    """Moves the write-ahead log into the database file and refreshes the query planner's statistics.

    Call it on the writer's connection, outside a transaction.
    """
    driver = _driver(connection)
    # A sample is enough for the planner, and bounds how long this takes.
    driver.execute("PRAGMA analysis_limit=1000").close()
    driver.execute("PRAGMA optimize").close()
    # Readers are not waited for: the next time does as well, and meanwhile nothing can be written.
    driver.execute(f"PRAGMA busy_timeout={TIDY_WAITS_MS}").close()
    driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}").close()


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("not a SQLite connection")
    return driver


def size_bytes(path: Path) -> int:
    """Bytes on disk of the database with its write-ahead log."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
