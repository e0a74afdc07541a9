"""A house whose programs have points in them."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping, Sequence

from tests.failpoints.control import Failpoints
from tests.scenarios.house import House


class PointedHouse(House):
    """As a House; `points` arms the points of its server, its agents, and the fork servers and shims below them.

    `idle_s`: how long a fork server is of no use before it leaves; by default as long as the product says.
    """

    points: Failpoints

    def __init__(self, *, idle_s: float | None = None, **settings: object) -> None:
        self._idle = {} if idle_s is None else {"FAILPOINT_IDLE_S": str(idle_s)}
        super().__init__(**settings)

    def prepare(self, root: pathlib.Path) -> Mapping[str, str]:
        self.points = Failpoints(root / "points")
        return {**self.points.environment(), **self._idle, "FAILPOINT_BACKOFF_S": "0.2"}

    def server_argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.failpoints.server"]

    def runner_argv(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.failpoints.runner"]
