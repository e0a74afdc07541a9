"""A house on a real database in a directory of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.domain.ids import Holder
from tests.fakes.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "state")
    await made.settle_in()
    yield made
    await made.house.database.close()


@pytest.fixture
async def holder(world: World) -> Holder:
    return await world.runner()
