"""Each step between a run's end and its settling, and the signing of the trail: the server is killed around each."""

from __future__ import annotations

import pytest

from tests.failpoints.fixtures import _scenes, scene
from tests.failpoints.scene import Scene
from tests.scenarios.test_failpoints_conclusion import expect_concluded, expect_trail

__all__ = ["_scenes", "scene"]

MOMENTS = ("before_commit", "after_commit")
# In their order.
STEPS = ("artifacts_begin", "artifacts_complete", "artifacts_finish", "release", "reports_made")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("step", STEPS)
def test_files_and_reports_are_there_once_whenever_the_server_is_killed(scene: Scene, step: str, moment: str) -> None:
    expect_concluded(scene, f"{step}.{moment}")


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_trail_is_whole_whenever_the_server_is_killed_while_it_is_signed(scene: Scene, moment: str) -> None:
    expect_trail(scene, moment)
