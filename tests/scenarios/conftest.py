"""Houses for the scenarios: one that a worker's tests share, and one of its own for a test that breaks things."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.failpoints.fixtures import _scenes, hasty, scene
from tests.failpoints.scene import Scene
from tests.scenarios.house import House, unshared

__all__ = ["_scenes", "hasty", "house", "scene", "shared"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Append what the programs said to the report of a scenario that failed."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Scene):
                value.broken = True
            house = value.house if isinstance(value, Scene) else value
            if isinstance(house, House):
                report.sections.append(("what the programs said", house.said()))
    return report  # type: ignore[return-value]


@pytest.fixture
def house() -> Iterator[House]:
    """A control plane for this test alone; it has no runner yet."""
    with House() as made:
        yield made


@pytest.fixture(scope="session")
def _shared() -> Iterator[House]:
    with House() as made:
        made.agent("r1", slots=8, labels={"os": "linux"})
        yield made


@pytest.fixture
def shared(_shared: House) -> House:
    """A control plane with the runner r1 (8 slots, os=linux) that other tests use too: do not restart anything."""
    _shared.server.expect_running()
    _shared.agents["r1"].expect_running()
    return _shared


@pytest.fixture
def here(shared: House) -> pathlib.Path:
    """A directory of this test in the shared house."""
    return unshared(shared)
