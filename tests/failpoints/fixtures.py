"""Fixtures of the scenarios with points: a scene that tests use one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.failpoints.scene import Scene

__all__ = ["_scenes", "hasty", "scene"]

Scenes = dict[str, Scene]


@pytest.fixture(scope="session")
def _scenes() -> Iterator[Scenes]:
    made: Scenes = {}
    try:
        yield made
        for each in made.values():
            if not each.broken:
                each.broken = True  # until it is found sound
                each.expect_sound()
                each.broken = False
    finally:
        for each in made.values():
            each.close()


def usable(made: Scenes, key: str, **settings: object) -> Scene:
    """The scene of this name; a fresh one if there is none yet, or if a test has failed in it."""
    known = made.get(key)
    if known is not None and known.broken:
        known.close()
        known = None
    if known is None:
        known = made[key] = Scene(**settings)
    return known


@pytest.fixture
def scene(_scenes: Scenes) -> Iterator[Scene]:
    """A control plane, the runner r1 and points in both."""
    found = usable(_scenes, "default")
    yield found
    found.points.disarm()


@pytest.fixture
def hasty(_scenes: Scenes) -> Iterator[Scene]:
    """As `scene`, with a lease of little more than a second."""
    found = usable(_scenes, "hasty", testing=True, heartbeat_shortest_s=0.4, loss_margin_s=0.5)
    yield found
    found.points.disarm()
