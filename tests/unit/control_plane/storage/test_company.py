"""Verbs that nobody waits for share the commit of the next one, and verbs that stir something are followed once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from control_plane.storage import writer
from control_plane.storage.database import Connection, Database
from control_plane.storage.following import Stir
from tests.fakes.clock import FakeClock
from tests.waiting import wait_for_async

_INSERT = text("INSERT INTO settings (key, value, updated_at) VALUES (:key, '', 0)")


def put(key: str, *, fail: bool = False) -> Callable[[Connection], str]:
    def body(connection: Connection) -> str:
        connection.execute(_INSERT, {"key": key})
        if fail:
            raise ValueError(key)
        return key

    return body


class Follows:
    """Writes down what it is told, and a row of its own."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.told: list[tuple[Stir, object, str]] = []

    def follow(self, connection: Connection, stirs: Stir) -> str:
        return put(f"followed {stirs.value} {len(self.told)}", fail=self.fails)(connection)

    def followed(self, stirs: Stir, result: object, error: BaseException | None) -> None:
        self.told.append((stirs, result, str(error or "")))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database.open(tmp_path / "state", FakeClock())
    yield made
    await made.close()


async def keys(database: Database) -> list[str]:
    def body(connection: Connection) -> list[str]:
        return [row[0] for row in connection.execute(text("SELECT key FROM settings ORDER BY rowid"))]

    return await database.read(body)


async def taken(database: Database) -> None:
    async def empty() -> bool:
        return not database.statistics().waiting

    await wait_for_async(empty, what="the writer has taken what waits")


async def test_a_patient_verb_shares_the_commit_of_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 60.0)
    async with asyncio.TaskGroup() as group:
        patient = group.create_task(database.write(put("patient"), patient=True))
        await asyncio.sleep(0)
        await taken(database)
        before = database.statistics().commits
        assert not patient.done()
        assert await database.write(put("next")) == "next"
    assert database.statistics().commits == before + 1
    assert await keys(database) == ["patient", "next"]


async def test_a_patient_verb_alone_is_not_kept_for_ever(database: Database) -> None:
    assert await database.write(put("alone"), patient=True) == "alone"


async def test_a_patient_verb_is_finished_when_the_database_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 60.0)
    database = Database.open(tmp_path / "state", FakeClock())
    async with asyncio.TaskGroup() as group:
        patient = group.create_task(database.write(put("patient"), patient=True))
        await asyncio.sleep(0)
        await taken(database)
        await database.close()
    assert patient.result() == "patient"


async def test_the_follower_runs_once_behind_all_that_stirred(database: Database) -> None:
    database.follower = follower = Follows()
    before = database.statistics().commits
    await asyncio.gather(
        database.write(put("a"), stirs=Stir.QUEUED),
        database.write(put("b"), stirs=Stir.SLOT),
        database.write(put("c")),
    )
    found = await keys(database)
    assert database.statistics().commits - before <= 2
    assert [told[1] for told in follower.told] == [key for key in found if key.startswith("followed")]
    assert {stir for told in follower.told for stir in told[0]} == {Stir.QUEUED, Stir.SLOT}
    await database.write(put("d"))
    assert await keys(database) == [*found, "d"]


async def test_a_follower_that_fails_undoes_itself_only(database: Database) -> None:
    database.follower = follower = Follows(fails=True)
    assert await database.write(put("a"), stirs=Stir.QUEUED) == "a"
    assert await keys(database) == ["a"]
    assert follower.told == [(Stir.QUEUED, None, "followed 1 0")]


async def test_behind_a_refused_verb_it_runs_all_the_same(database: Database) -> None:
    database.follower = follower = Follows()
    with pytest.raises(ValueError, match="a"):
        await database.write(put("a", fail=True), stirs=Stir.SLOT)
    assert await keys(database) == ["followed 2 0"]
    assert len(follower.told) == 1


async def test_of_several_that_run_alone_none_is_lost_behind_a_follower(database: Database) -> None:
    database.follower = Follows()
    began, go = threading.Event(), threading.Event()

    def busy(connection: Connection) -> None:
        began.set()
        go.wait(10)

    async with asyncio.TaskGroup() as group:
        group.create_task(database.write(busy, stirs=Stir.SLOT))
        await asyncio.sleep(0)
        began.wait(10)
        alone = [group.create_task(database.tidy()) for _ in range(2)]
        await asyncio.sleep(0)
        go.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*alone)
