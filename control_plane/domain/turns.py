"""Whose turn it is: lanes of the queue that were served longest ago come first. Memory, of as many lanes as count."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from control_plane.domain.ids import RunId


class Waits(Protocol):
    """What says where in the queue a run stands."""

    @property
    def run_id(self) -> RunId: ...
    @property
    def priority(self) -> int: ...
    @property
    def queue_rank(self) -> int: ...
    @property
    def lane(self) -> str: ...


W = TypeVar("W", bound=Waits)


class Turns:
    """When each lane was last served, as a number that grows."""

    CAPACITY = 10_000

    def __init__(self) -> None:
        self._served: OrderedDict[str, int] = OrderedDict()
        self._number = 0
        # Where the next look at very many lanes goes on; empty: at the first.
        self.cursor = ""

    def served(self, lane: str) -> None:
        """A run of this lane was offered."""
        self._number += 1
        self._served[lane] = self._number
        self._served.move_to_end(lane)
        if len(self._served) > self.CAPACITY:
            self._served.popitem(last=False)

    def known(self) -> Mapping[str, int]:
        """Lanes that were served; whoever is not in it comes first."""
        return self._served


def in_order(queued: Iterable[W], turns: Mapping[str, int]) -> list[W]:
    """Highest priority first, then returned runs; among equals each lane gives one in turn, its oldest first.

    `turns`: a number that grows with each lane that is served; who was served longest ago begins.
    """
    by_age = sorted(queued, key=lambda each: (-each.priority, each.queue_rank, each.run_id))
    if len({run.lane for run in by_age}) < 2:
        return by_age
    given: dict[tuple[int, int, str], int] = {}
    order: list[tuple[tuple[int, int, int, int, str], W]] = []
    for run in by_age:
        equals = (run.priority, run.queue_rank, run.lane)
        number = given[equals] = given.get(equals, -1) + 1
        order.append(((-run.priority, run.queue_rank, number, turns.get(run.lane, 0), run.run_id), run))
    return [run for _, run in sorted(order, key=lambda each: each[0])]
