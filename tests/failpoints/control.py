"""A test's hand on the points: arm them, wait until one was reached, let go what is held there."""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

from tests.failpoints.names import NAMES
from tests.failpoints.points import ARMED, DIRECTORY, HITS, ORDERS, parse
from tests.waiting import wait_for


class Hit(NamedTuple):
    """Who came to which armed point."""

    order: str
    point: str
    pid: int
    action: str


class Failpoints:
    """The points of all programs that were started with `environment`."""

    def __init__(self, directory: pathlib.Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.directory = directory
        self._generation = 0

    def environment(self, orders: str = "") -> dict[str, str]:
        """What a program needs to have these points; `orders` are armed from its first moment on."""
        _checked(orders)
        found = {DIRECTORY: str(self.directory)}
        return {**found, ORDERS: orders} if orders else found

    def arm(self, *orders: str) -> None:
        """These orders and no others, in all programs, from now on. Counting begins anew."""
        text = ";".join(orders)
        _checked(text)
        self._generation += 1
        fresh = self.directory / "armed.tmp"
        fresh.write_text(f"{self._generation}\n{text}")
        fresh.rename(self.directory / ARMED)

    def disarm(self) -> None:
        """No orders, but those of the environment."""
        self.arm()

    def hits(self, point: str = "") -> list[Hit]:
        """All hits since the arming, of a point if one is named."""
        path = self.directory / HITS
        words = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
        found = [Hit(order, name, int(pid), action) for order, name, pid, action in words]
        ours = (f"{self._generation}-", "e")
        return [hit for hit in found if hit.order.startswith(ours) and point in ("", hit.point)]

    def wait(self, point: str, *, count: int = 1, timeout_s: float = 30.0) -> Hit:
        """The newest hit of an armed point, once there are so many. A point that nobody reaches makes the test red."""

        def reached() -> Hit | None:
            found = self.hits(point)
            return found[-1] if len(found) >= count else None

        return wait_for(reached, what=f"a program comes to {point}; hits: {self.hits()}", timeout_s=timeout_s)

    def go(self, hit: Hit) -> None:
        """Let go who is held there."""
        os.close(os.open(self.directory / f"go.{hit.order}", os.O_CREAT | os.O_WRONLY, 0o600))


def _checked(orders: str) -> None:
    unknown = {order.point for order in parse(orders) if not order.point.endswith("*")} - NAMES
    assert not unknown, f"there are no such points: {sorted(unknown)}"
