"""Places and turns: what a run takes, who is next, and why the others wait."""

from __future__ import annotations

import pytest

from control_plane.domain.concurrency import (
    ConcurrencyLimit,
    LimitScope,
    OnLimit,
    Place,
    Taken,
    lane_of,
    places_of,
)
from control_plane.domain.ids import ProjectId, RunId, TaskId
from control_plane.domain.placement import QueuedRun, Refusals, RunnerView, place
from control_plane.domain.turns import Turns, in_order
from tests.fakes.cases import NOW
from tests.unit.control_plane.domain.test_placement import TIMING, offers, queued, runner

P, T = ProjectId("p"), TaskId("t")


def limit(count: int = 1, key: str = "", scope: LimitScope = LimitScope.TASK) -> ConcurrencyLimit:
    return ConcurrencyLimit(limit=count, key=key, scope=scope, on_limit=OnLimit.QUEUE)


def one(group: str = "task:t", count: int = 1) -> Place:
    return Place(group=group, limit=count, on_limit=OnLimit.QUEUE, name="task build")


@pytest.mark.parametrize(
    ("found", "values", "groups", "lane"),
    [
        ((), {}, [], "p"),
        ((limit(),), {}, ["task:t"], "p/task:t"),
        ((limit(), limit(key="{{ b }}")), {"b": "x:y"}, ["task:t", "task:t:x:y"], "p/task:t:x:y"),
        ((limit(key="{{ b }}"),), None, ["task:t:{{ b }}"], "p/task:t:{{ b }}"),
        ((limit(key="{{ b }}"),), {"b": ""}, ["task:t"], "p/task:t"),
        ((limit(key="k", scope=LimitScope.PROJECT),), {}, ["project:p:k"], "p/project:p:k"),
    ],
)
def test_groups_and_lanes(
    found: tuple[ConcurrencyLimit, ...], values: dict[str, str] | None, groups: list[str], lane: str
) -> None:
    places = places_of(found, P, T, "build", values)
    assert [place.group for place in places] == groups
    assert lane_of(P, places) == lane


def test_of_two_limits_that_come_to_the_same_runs_the_lower_counts() -> None:
    found = (limit(5, key="{{ a }}"), limit(2, key="{{ b }}"))
    (place,) = places_of(found, P, T, "build", {"a": "x", "b": "x"})
    assert (place.limit, place.name) == (2, "key x of task build")


def test_a_limit_of_a_task_is_nothing_without_one() -> None:
    assert places_of((limit(), limit(scope=LimitScope.PROJECT)), P, None, "", {}) == places_of(
        (limit(scope=LimitScope.PROJECT),), P, None, "", {}
    )


def limited(runs: list[QueuedRun], taken: dict[str, Taken], runners: list[RunnerView]):
    return place(runs, runners, Refusals(TIMING), NOW, 0.0, TIMING, taken)


def test_at_the_limit_a_run_waits_and_says_for_whom() -> None:
    runs = [queued(name, places=(one(count=3),)) for name in "abc"]
    result = limited(runs, {"task:t": Taken(count=1, run_id=RunId("z"))}, [runner(slots=9)])
    assert [run for run, _ in offers(result)] == ["a", "b"]
    assert result.waiting["c"] == "The limit of 3 for task build is reached: run z holds a place."


def test_a_run_that_gets_no_runner_takes_no_place() -> None:
    runs = [queued("a", slots=2, places=(one(),)), queued("b", places=(one(),))]
    assert offers(limited(runs, {}, [runner(slots=1)])) == [("b", "r")]


def test_lanes_take_turns_within_a_priority() -> None:
    runs = [queued(f"{lane}{number}", lane=lane) for lane in "ab" for number in range(3)]
    runs += [queued("c0", lane="c", priority=-1), queued("a9", lane="a", queue_rank=0), queued("b9", priority=1)]
    order = [run.run_id for run in in_order(runs, {})]
    assert order == ["b9", "a9", "a0", "b0", "a1", "b1", "a2", "b2", "c0"]


def test_who_was_served_longest_ago_is_next() -> None:
    turns = Turns()
    runs = [queued(f"{lane}{number}", lane=lane) for lane in "abc" for number in range(3)]
    served = []
    for _ in range(7):
        first = in_order(runs, turns.known())[0]
        turns.served(first.lane)
        runs.remove(first)
        served.append(first.run_id)
    assert served == ["a0", "b0", "c0", "a1", "b1", "c1", "a2"]


def test_turns_are_bounded() -> None:
    turns = Turns()
    for number in range(Turns.CAPACITY + 1):
        turns.served(str(number))
    assert len(turns.known()) == Turns.CAPACITY
    assert "0" not in turns.known()
