"""A real database in a directory of its own, and entities to fill it with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.storage.database import Database
from tests.contract.storage_things import T0, Things
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(start=T0)


@pytest.fixture
async def database(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Database]:
    opened = Database.open(tmp_path / "state", clock)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def things(database: Database, clock: FakeClock) -> Things:
    made = Things(clock)
    await database.write(made.foundations)
    return made
