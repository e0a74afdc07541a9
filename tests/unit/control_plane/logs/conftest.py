"""A run whose log is read while it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.logs.tail import TailSettings
from tests.unit.control_plane.logs.tailed import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, TailSettings(batch_bytes=1_000, incomplete_after_s=0.0))
    yield house
    house.close()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, TailSettings(incomplete_after_s=3600.0))
    yield house
    house.close()
