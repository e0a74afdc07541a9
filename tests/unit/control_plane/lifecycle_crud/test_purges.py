"""What cannot be removed stays hidden and is tried again; nothing else waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from control_plane.domain.errors import ErrorCode, NotFound, Unavailable
from control_plane.domain.ids import AttemptKey, RunId
from control_plane.lifecycle import housekeeping, logs, purges
from control_plane.lifecycle.house import House
from control_plane.lifecycle.housekeeping import Keep
from control_plane.logs import purger as purger_module
from control_plane.logs.files import FileLogStore
from control_plane.logs.purger import Purger
from control_plane.storage import reads
from tests.unit.control_plane.lifecycle_crud.conftest import Stage
from tests.unit.control_plane.lifecycle_crud.test_logs_and_housekeeping import SEAL, connected, ended
from tests.waiting import wait_for_async

DAY_S = 86_400.0


class Stubborn(FileLogStore):
    """Does not give the logs of some runs away."""

    kept: frozenset[RunId] = frozenset()

    def delete(self, key: AttemptKey) -> None:
        if key.run_id in self.kept:
            raise PermissionError("read-only")
        super().delete(key)


class Giving:
    """Seals logs, or says that the database does not answer."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.fails = stage, False

    async def __call__(self, key: AttemptKey) -> None:
        if self.fails:
            raise Unavailable(ErrorCode.STORAGE_UNAVAILABLE)
        await logs.seal_log(self.stage.house, key, SEAL)


async def hidden(stage: Stage) -> tuple[RunId, ...]:
    return await purges.waiting(stage.house)


async def test_a_log_that_stays_keeps_only_its_own_run(stage: Stage, tmp_path: Path) -> None:
    holder = await connected(stage)
    keys = [await ended(stage, holder) for _ in range(3)]
    for key in keys:
        await purges.delete_run(stage.house, stage.caller, key.run_id)
    store = Stubborn(tmp_path / "logs")
    store.kept = frozenset({keys[1].run_id})
    purger = Purger(house=stage.house, store=store, give_up=Giving(stage))
    assert await purger.purge() == 2
    assert await hidden(stage) == (keys[1].run_id,)
    store.kept = frozenset()
    assert await purger.purge() == 1
    assert await hidden(stage) == ()
    store.close()


async def test_a_log_that_cannot_be_sealed_yet_and_something_elsewhere(stage: Stage, tmp_path: Path) -> None:
    holder = await connected(stage)
    key = await ended(stage, holder)
    await purges.delete_run(stage.house, stage.caller, key.run_id)
    giving, removed, store = Giving(stage), list[RunId](), FileLogStore(tmp_path / "logs")

    async def remove(run_ids: Sequence[RunId]) -> None:
        removed.extend(run_ids)
        if len(removed) == 1:
            raise OSError("not now")

    purger = Purger(house=stage.house, store=store, give_up=giving, removers=[remove])
    giving.fails = True
    assert (await purger.purge(), removed) == (0, [])
    giving.fails = False
    assert (await purger.purge(), await hidden(stage)) == (0, (key.run_id,))
    assert await stage.house.database.read(partial(reads.attempt, key=key)) is not None
    assert (await purger.purge(), removed) == (1, [key.run_id, key.run_id])
    assert await stage.house.database.read(partial(reads.attempt, key=key)) is None
    store.close()


@pytest.mark.parametrize("where", ["rows", "log", "elsewhere"])
async def test_what_fails_for_no_known_reason_keeps_only_its_own_run(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    holder = await connected(stage)
    keys = [await ended(stage, holder) for _ in range(3)]
    for key in keys:
        await purges.delete_run(stage.house, stage.caller, key.run_id)
    stuck, real, give_up = keys[1].run_id, purges.empty, Giving(stage)

    async def empty(house: House, run_ids: Sequence[RunId]) -> None:
        if where == "rows" and stuck in run_ids:
            raise LookupError("a mistake")
        await real(house, run_ids)

    async def giving(key: AttemptKey) -> None:
        if where == "log" and key.run_id == stuck:
            raise LookupError("a mistake")
        await give_up(key)

    async def remove(run_ids: Sequence[RunId]) -> None:
        if where == "elsewhere" and stuck in run_ids:
            raise LookupError("a mistake")

    monkeypatch.setattr(purges, "empty", empty)
    store = FileLogStore(tmp_path / "logs")
    purger = Purger(house=stage.house, store=store, give_up=giving, removers=[remove])
    assert (await purger.purge(), await hidden(stage)) == (2, (stuck,))
    where = ""
    assert (await purger.purge(), await hidden(stage)) == (1, ())
    store.close()


async def test_a_round_that_fails_is_not_the_last_one(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, real, rounds = await ended(stage, await connected(stage)), purges.waiting, 0
    await purges.delete_run(stage.house, stage.caller, key.run_id)

    async def failing(house: House, besides: frozenset[RunId] = frozenset()) -> tuple[RunId, ...]:
        nonlocal rounds
        rounds += 1
        if rounds <= 2:
            raise LookupError("a mistake")
        return await real(house, besides)

    async def emptied() -> bool:
        return not await real(stage.house)

    monkeypatch.setattr(purges, "waiting", failing)
    monkeypatch.setattr(purger_module, "AFTER_TROUBLE_S", 0.01)
    store = FileLogStore(tmp_path / "logs")
    async with asyncio.TaskGroup() as group:
        purger = Purger(house=stage.house, store=store, give_up=Giving(stage))
        going = group.create_task(purger.run(), name="purger")
        await wait_for_async(emptied, what="the run is purged")
        going.cancel()
    store.close()


async def test_a_tombstone_goes_after_its_time_and_tokens_from_before_expire(stage: Stage, tmp_path: Path) -> None:
    key = await ended(stage, await connected(stage))
    await purges.delete_run(stage.house, stage.caller, key.run_id)
    store = FileLogStore(tmp_path / "logs")
    await Purger(house=stage.house, store=store, give_up=Giving(stage)).purge()
    store.close()
    stage.clock.advance(89 * DAY_S)
    assert (await housekeeping.sweep(stage.house, Keep())).tombstones == 0
    assert await stage.house.database.read(partial(reads.run_or_tombstone, run_id=key.run_id)) is not None
    newest = await stage.house.database.read(reads.newest_event_number)
    stage.clock.advance(2 * DAY_S)
    assert (await housekeeping.sweep(stage.house, Keep())).tombstones == 1
    assert await stage.house.database.read(partial(reads.run_or_tombstone, run_id=key.run_id)) is None
    assert await stage.house.database.read(reads.events_deleted_to) == newest


async def test_it_is_deleted_once(stage: Stage) -> None:
    key = await ended(stage, await connected(stage))
    await purges.delete_run(stage.house, stage.caller, key.run_id)
    with pytest.raises(NotFound) as caught:
        await purges.delete_run(stage.house, stage.caller, key.run_id)
    assert caught.value.code is ErrorCode.RUN_NOT_FOUND
