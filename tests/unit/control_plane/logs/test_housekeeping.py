"""Compressing and removing logs: what is done, in which order, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.domain.ids import AttemptKey, Holder, RunId, RunnerId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.logs import LogSeal
from control_plane.domain.run import RunState
from control_plane.logs.files import FileLogStore
from control_plane.logs.housekeeping import LogHousekeeping, LogRetention
from control_plane.watch import Watch
from tests.fakes.log_ledger import MemoryLedger

HOLDER = Holder(runner_id=RunnerId("runner"), state_directory_id="disk")
KEYS = [AttemptKey(run_id=RunId(f"0190b3a0-run-{number}"), lease_epoch=1) for number in range(5)]


class House:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = FileLogStore(root)
        self.ledger = MemoryLedger(Watch())
        self.sealed: list[AttemptKey] = []
        self.given_up: list[AttemptKey] = []

    async def add(self, key: AttemptKey, size: int, *, seal: bool = True) -> None:
        self.ledger.add(key, HOLDER)
        record = LogRecord(kind=LogKind.STDOUT, at=datetime(2026, 1, 1, tzinfo=UTC), data=b"text text\n" * (size // 10))
        self.store.append(key, 0, [record])
        self.store.sync([key])
        if seal:
            self.ledger.finish(key, state=RunState.SUCCEEDED)
            await self.ledger.seal(key, LogSeal(bytes=size, digest="", complete=True))
            self.store.seal(key)
            self.sealed.append(key)

    def housekeeping(self, **retention: float) -> LogHousekeeping:
        def take() -> list[AttemptKey]:
            taken, self.sealed = self.sealed, []
            return taken

        async def give_up(key: AttemptKey) -> None:
            self.given_up.append(key)

        kept = LogRetention(**{"keep_bytes": 1 << 40, **retention})  # type: ignore[arg-type]
        return LogHousekeeping(ledger=self.ledger, store=self.store, take_sealed=take, give_up=give_up, retention=kept)

    def suffixes(self) -> list[str]:
        return sorted(path.suffix for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.store.close()


async def test_sealed_logs_are_compressed_once_and_small_or_open_ones_are_left_alone(house: House) -> None:
    await house.add(KEYS[0], 100_000)
    await house.add(KEYS[1], 1_000)
    await house.add(KEYS[2], 100_000, seal=False)
    care = house.housekeeping()
    assert await care.compress() == 1
    assert await care.compress() == 0
    assert house.suffixes() == [".arc", ".seg", ".seg"]


async def test_what_a_restart_forgot_is_found(house: House) -> None:
    await house.add(KEYS[0], 100_000)
    house.sealed.clear()
    house.store.close()
    assert await house.housekeeping().compress() == 1


async def test_a_changed_log_is_kept_as_it_is(house: House) -> None:
    await house.add(KEYS[0], 100_000)
    house.store.close()
    (path,) = (path for path in house.root.rglob("*.seg"))
    data = bytearray(path.read_bytes())
    data[5_000] ^= 1
    path.write_bytes(data)
    assert await house.housekeeping().compress() == 0
    assert path.read_bytes() == data


async def test_old_logs_are_removed_and_remembered_as_gone(house: House) -> None:
    for key in KEYS:
        await house.add(key, 20_000)
    assert await house.housekeeping(keep_s=1.0).remove_old() == 5
    assert house.ledger.gone == KEYS
    assert house.suffixes() == []


async def test_the_oldest_go_when_there_are_too_many(house: House) -> None:
    async def none_expired(older_than_s: float, limit: int) -> tuple[AttemptKey, ...]:
        return ()

    house.ledger.expired = none_expired  # type: ignore[method-assign]
    for key in KEYS:
        await house.add(key, 20_000)
    assert await house.housekeeping(keep_bytes=50_000).remove_old() == 3
    assert house.ledger.gone == KEYS[:3]
    assert await house.housekeeping(keep_bytes=50_000).remove_old() == 0


async def test_a_log_whose_runner_stays_away_is_given_up(house: House) -> None:
    await house.add(KEYS[0], 20_000, seal=False)
    await house.add(KEYS[1], 20_000, seal=False)
    house.ledger.finish(KEYS[1], state=RunState.LOST)
    assert await house.housekeeping().remove_old() == 0
    assert house.given_up == [KEYS[1]]
