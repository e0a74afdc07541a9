"""A server for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.server import Doors, Server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path / "state")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def doors(server: Server) -> Doors:
    return server.doors()
