"""Promises of the writer: many verbs a commit, each on its own, answered only when it is safe."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from control_plane.domain.errors import ErrorCode, NotFound, ResourceExhausted, Unavailable
from control_plane.storage.database import Connection, Database
from control_plane.storage.sqlite import StateDirectoryInUse
from control_plane.storage.tables import SETTINGS
from tests.fakes.clock import FakeClock
from tests.waiting import wait_for_async


def put(name: str, value: str = "x") -> Callable[[Connection], str]:
    def body(conn: Connection) -> str:
        conn.execute(insert(SETTINGS), {"key": name, "value": value, "updated_at": 0})
        return name

    return body


def keys(conn: Connection) -> list[str]:
    return [row[0] for row in conn.execute(select(SETTINGS.c.key).order_by(SETTINGS.c.key))]


class Gate:
    """A verb that holds the writer until it is let go, so that others queue up behind it."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()

    def body(self, conn: Connection) -> None:
        self._entered.set()
        self._open.wait(30)

    async def closed(self) -> None:
        await asyncio.to_thread(self._entered.wait, 30)

    def open(self) -> None:
        self._open.set()


async def queued(database: Database, verbs: int) -> None:
    async def waiting() -> bool:
        return database.statistics().waiting >= verbs

    await wait_for_async(waiting, what=f"{verbs} verbs in the queue")


async def together(database: Database, *bodies: Callable[[Connection], object]) -> list[object]:
    """Runs the bodies so that all of them wait while the writer is busy; their results or errors."""
    gate = Gate()
    first = asyncio.ensure_future(database.write(gate.body))
    await gate.closed()
    results = asyncio.gather(*(database.write(body) for body in bodies), return_exceptions=True)
    await queued(database, len(bodies))
    gate.open()
    await asyncio.gather(first, return_exceptions=True)
    return list(await results)


async def test_waiting_verbs_share_commits(database: Database) -> None:
    before = database.statistics().commits
    names = [f"k{number:03}" for number in range(200)]
    results = await together(database, *(put(name) for name in names))
    assert results == names
    # 201 verbs with the one that held the writer, 64 to a transaction.
    assert database.statistics().commits - before == 4
    assert database.statistics().largest_batch == 64
    assert await database.read(keys) == names


async def test_a_transaction_ends_when_it_is_old(database: Database, clock: FakeClock) -> None:
    def slow(name: str) -> Callable[[Connection], str]:
        def body(conn: Connection) -> str:
            clock.advance(0.021)
            return put(name)(conn)

        return body

    before = database.statistics().commits
    await together(database, slow("a"), slow("b"), put("c"))
    # The gate with "a", then "b" alone, then "c".
    assert database.statistics().commits - before == 3


async def test_a_refusal_undoes_its_own_verb_only(database: Database) -> None:
    def refuse(conn: Connection) -> None:
        put("half")(conn)
        raise NotFound(ErrorCode.RUN_NOT_FOUND)

    before = database.statistics().commits
    good, bad, other = await together(database, put("a"), refuse, put("b"))
    assert (good, other) == ("a", "b")
    assert isinstance(bad, NotFound)
    assert database.statistics().commits - before == 1
    assert await database.read(keys) == ["a", "b"]


async def test_a_refusal_before_anything_was_written_costs_nobody_a_second_run(database: Database) -> None:
    ran: list[str] = []

    def counted(name: str, body: Callable[[Connection], object]) -> Callable[[Connection], object]:
        def run(conn: Connection) -> object:
            ran.append(name)
            return body(conn)

        return run

    def refused(conn: Connection) -> None:
        raise NotFound(ErrorCode.RUN_NOT_FOUND)

    def refused_late(conn: Connection) -> None:
        put("gone")(conn)
        raise NotFound(ErrorCode.RUN_NOT_FOUND)

    first = await together(database, counted("a", put("a")), counted("no", refused), counted("b", put("b")))
    assert [type(result) for result in first] == [str, NotFound, str]
    assert (ran, database.statistics().undone) == (["a", "no", "b"], 0)
    ran.clear()
    second = await together(database, counted("c", put("c")), counted("late", refused_late), counted("d", put("d")))
    assert [type(result) for result in second] == [str, NotFound, str]
    assert (ran, database.statistics().undone) == (["c", "late", "c", "late", "d"], 1)
    assert await database.read(keys) == ["a", "b", "c", "d"]


async def test_a_constraint_and_a_bug_belong_to_their_verbs(database: Database) -> None:
    def bug(conn: Connection) -> None:
        put("half")(conn)
        raise ZeroDivisionError

    first, twice, broken, last = await together(database, put("a"), put("a"), bug, put("b"))
    assert (first, last) == ("a", "b")
    assert isinstance(twice, IntegrityError)
    assert isinstance(broken, ZeroDivisionError)
    assert await database.read(keys) == ["a", "b"]


async def test_a_later_verb_of_the_transaction_sees_the_earlier_one(database: Database) -> None:
    seen = await together(database, put("a"), keys, put("b"), keys)
    assert seen == ["a", ["a"], "b", ["a", "b"]]


async def test_a_full_disk_fails_all_and_heals_by_itself(database: Database) -> None:
    def no_more_room(conn: Connection) -> None:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        conn.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    def room_again(conn: Connection) -> None:
        conn.exec_driver_sql("PRAGMA max_page_count=1000000")

    await database.write(no_more_room)
    small, large = await together(database, put("small"), put("large", "x" * 1_000_000))
    assert isinstance(small, ResourceExhausted)
    assert isinstance(large, ResourceExhausted)
    assert large.code is ErrorCode.STORAGE_FULL
    assert await database.read(keys) == []
    await database.write(room_again)
    assert await database.write(put("later")) == "later"
    assert await database.read(keys) == ["later"]


async def test_a_busy_transaction_runs_again(database: Database) -> None:
    runs: list[str] = []

    def busy_once(conn: Connection) -> str:
        runs.append("busy")
        if len(runs) < 3:
            cause = sqlite3.OperationalError("database is locked")
            cause.sqlite_errorcode = sqlite3.SQLITE_BUSY  # type: ignore[misc]
            raise OperationalError("x", None, cause)
        return put("b")(conn)

    def counted(conn: Connection) -> str:
        runs.append("a")
        return put("a")(conn)

    results = await together(database, counted, busy_once)
    assert results == ["a", "b"]
    assert runs == ["a", "busy", "a", "busy"]
    assert database.statistics().reruns == 1
    assert await database.read(keys) == ["a", "b"]


async def test_a_database_that_stays_locked_is_unavailable(database: Database) -> None:
    await database.write(lambda conn: conn.exec_driver_sql("PRAGMA busy_timeout=0").close())
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as caught:
        await database.write(put("a"))
    assert caught.value.code is ErrorCode.STORAGE_UNAVAILABLE
    other.execute("ROLLBACK")
    other.close()
    assert await database.write(put("b")) == "b"
    assert await database.read(keys) == ["b"]


async def test_after_is_called_although_the_caller_has_gone(database: Database) -> None:
    gate = Gate()
    told: list[str] = []
    done = asyncio.Event()

    def after(result: str) -> None:
        told.append(result)
        done.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(database.write(gate.body))
        await gate.closed()
        caller = group.create_task(database.write(put("a"), after=after))
        await queued(database, 1)
        caller.cancel()
        gate.open()
    await asyncio.wait_for(done.wait(), 30)
    assert told == ["a"]
    assert await database.read(keys) == ["a"]


async def test_after_is_not_called_for_a_refusal(database: Database) -> None:
    told: list[object] = []

    def refuse(conn: Connection) -> None:
        raise NotFound(ErrorCode.RUN_NOT_FOUND)

    with pytest.raises(NotFound):
        await database.write(refuse, after=told.append)
    assert told == []


async def test_a_mistake_in_after_keeps_no_answer_back(database: Database) -> None:
    loop = asyncio.get_running_loop()
    reported: list[str] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["message"]))

    def bad(result: str) -> None:
        raise ZeroDivisionError

    assert await database.write(put("a"), name="first", after=bad) == "a"
    assert await database.write(put("b")) == "b"
    assert reported == ["after the write 'first'"]
    loop.set_exception_handler(None)


async def test_a_verb_that_ends_the_transaction_fails_and_the_writer_lives_on(database: Database) -> None:
    def rolls_back(conn: Connection) -> None:
        conn.exec_driver_sql("ROLLBACK")

    first, broken, last = await together(database, put("a"), rolls_back, put("b"))
    assert isinstance(broken, Unavailable)
    assert isinstance(first, Unavailable)
    assert isinstance(last, Unavailable) or last == "b"
    assert await database.write(put("c")) == "c"
    assert "a" not in await database.read(keys)
    assert database.statistics().waiting == 0


async def test_closing_finishes_what_was_submitted(tmp_path: Path, clock: FakeClock) -> None:
    database = Database.open(tmp_path, clock)
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        group.create_task(database.write(gate.body))
        await gate.closed()
        last = group.create_task(database.write(put("a")))
        tidied = group.create_task(database.tidy())
        await queued(database, 2)
        closing = group.create_task(database.close())
        gate.open()
    assert last.result() == "a"
    assert tidied.done()
    assert closing.done()
    with pytest.raises(RuntimeError):
        await database.write(put("b"))
    again = Database.open(tmp_path, clock)
    assert await again.read(keys) == ["a"]
    await again.close()


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.read(put("a"))
    assert await database.read(keys) == []


async def test_readers_see_what_was_answered(database: Database) -> None:
    for number in range(20):
        await database.write(put(f"k{number:02}"))
        assert len(await database.read(keys)) == number + 1


async def test_one_server_owns_a_state_directory(database: Database, clock: FakeClock) -> None:
    with pytest.raises(StateDirectoryInUse, match="in use by process"):
        Database.open(database.path.parent, clock)
    await database.close()
    again = Database.open(database.path.parent, clock)
    await again.close()


async def test_files_are_for_their_owner_only(database: Database) -> None:
    await database.write(put("a"))
    files = sorted(database.path.parent.iterdir())
    assert {file.stat().st_mode & 0o077 for file in files} == {0}
    assert database.path.parent.stat().st_mode & 0o077 == 0
    assert database.size_bytes() > 0


async def test_tidy_empties_the_log(database: Database) -> None:
    await database.write(put("a", "x" * 100_000))
    await database.tidy()
    assert database.path.with_name("banksman.db-wal").stat().st_size == 0
    assert await database.read(keys) == ["a"]


async def test_what_was_refused_is_forgotten_at_once(database: Database) -> None:
    """Else every refused request, however large, would stay in memory until the garbage collector comes by."""

    async def refused() -> weakref.ref[Gate]:
        asked = Gate()

        def body(conn: Connection) -> None:
            put("a")(conn)
            raise NotFound(ErrorCode.RUN_NOT_FOUND, str(asked))

        with pytest.raises(NotFound):
            await database.write(body)
        return weakref.ref(asked)

    gc.collect()
    gc.disable()
    try:
        left = [await refused() for _ in range(5)]
        await database.write(keys)
        assert [each() for each in left] == [None] * 5
    finally:
        gc.enable()
