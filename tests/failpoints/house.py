"""A house whose programs have points in them."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping, Sequence

from tests.failpoints.control import Failpoints
from tests.scenarios.house import House


class PointedHouse(House):
    """As a House; `points` arms the points of its server, its agents, and the fork servers and shims below them."""

    points: Failpoints

    def prepare(self, root: pathlib.Path) -> Mapping[str, str]:
        self.points = Failpoints(root / "points")
        return {**self.points.environment(), "FAILPOINT_BACKOFF_S": "0.2"}

    def server_argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.failpoints.server"]

    def runner_argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.failpoints.runner"]
