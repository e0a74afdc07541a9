"""Which run goes where, what waits behind a reservation or a refusal, and the sentence that says why."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.ids import ProjectId, RunId, RunnerId
from control_plane.domain.placement import Match, Placement, QueuedRun, Refusals, RunnerView, place, selects
from control_plane.domain.spec import Selector, SelectorOperator
from control_plane.domain.timing import Timing
from tests.fakes.cases import NOW

TIMING = Timing()
IN, NOT_IN, EXISTS = SelectorOperator.IN, SelectorOperator.NOT_IN, SelectorOperator.EXISTS
LINUX = Selector(key="os", operator=IN, values=("linux",))


def queued(name: str = "a", **changes: object) -> QueuedRun:
    made = QueuedRun(run_id=RunId(name), project_id=ProjectId("p"), eligible_since=NOW)
    return replace(made, **changes)  # type: ignore[arg-type]


def runner(name: str = "r", slots: int = 1, **changes: object) -> RunnerView:
    made = RunnerView(runner_id=RunnerId(f"id-{name}"), name=name, slots=slots, free=slots)
    return replace(made, **changes)  # type: ignore[arg-type]


def placed(runs: list[QueuedRun], runners: list[RunnerView], refusals: Refusals | None = None) -> Placement:
    return place(runs, runners, refusals or Refusals(TIMING), NOW, 0.0, TIMING)


def offers(placement: Placement) -> list[tuple[str, str]]:
    return [(match.run_id, match.runner_id.removeprefix("id-")) for match in placement.offers]


def test_priority_then_returned_then_age() -> None:
    runs = [
        queued("a-oldest"),
        queued("b-returned", queue_rank=0),
        queued("c-urgent", priority=5),
        queued("d-low", priority=-1, queue_rank=0),
    ]
    result = placed(runs, [runner(slots=4)])
    assert [run for run, _ in offers(result)] == ["c-urgent", "b-returned", "a-oldest", "d-low"]


def test_slots_are_counted_and_the_emptiest_runner_is_taken() -> None:
    runs = [queued("a", slots=2), queued("b"), queued("c"), queued("d")]
    result = placed(runs, [runner("small", 2), runner("big", 3)])
    assert offers(result) == [("a", "big"), ("b", "small"), ("c", "big"), ("d", "small")]


def test_equal_runners_are_taken_by_name() -> None:
    assert offers(placed([queued()], [runner("b"), runner("a"), runner("ab")])) == [("a", "a")]


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        (Selector(key="os", operator=IN, values=("linux", "mac")), {"os": "mac"}, True),
        (Selector(key="os", operator=IN, values=("linux",)), {"os": "mac"}, False),
        (Selector(key="os", operator=IN, values=("linux",)), {}, False),
        (Selector(key="os", operator=NOT_IN, values=("mac",)), {"os": "linux"}, True),
        (Selector(key="os", operator=NOT_IN, values=("mac",)), {"os": "mac"}, False),
        (Selector(key="os", operator=NOT_IN, values=("mac",)), {}, True),
        (Selector(key="gpu", operator=EXISTS), {"gpu": ""}, True),
        (Selector(key="gpu", operator=EXISTS), {}, False),
    ],
)
def test_selectors(selector: Selector, labels: dict[str, str], matches: bool) -> None:
    assert selects(selector, labels) is matches


def test_all_selectors_must_hold_on_one_runner() -> None:
    both = queued(selectors=(LINUX, Selector(key="gpu", operator=EXISTS)))
    result = placed([both], [runner("x", labels={"os": "linux"}), runner("y", labels={"gpu": "a100"})])
    assert result.waiting == {"a": "No single runner has all the labels that it asks for."}


@pytest.mark.parametrize(
    ("run", "runners", "sentence"),
    [
        (queued(), [], "No runner is enrolled."),
        (queued(), [runner(revoked=True)], "No runner is enrolled."),
        (queued(runner="z"), [runner()], "There is no runner z."),
        (queued(runner="r"), [runner(connected=False)], "Runner r is not connected."),
        (queued(runner="id-r"), [runner(draining=True)], "Runner r is draining."),
        (queued(selectors=(LINUX,)), [runner()], "No runner has label os=linux."),
        (queued(selectors=(Selector(key="gpu", operator=EXISTS),)), [runner()], "No runner has label gpu."),
        (queued(), [runner(allowed_project_ids=("q",))], "No runner may take runs of this project."),
        (queued(slots=3), [runner(slots=2)], "No matching runner has 3 slots."),
        (queued(), [runner(free=0)], "All matching runners are busy (r)."),
        (queued(), [runner(connected=False), runner("s", connected=False)], "The matching runners are not connected."),
        (queued(), [runner(draining=True), runner("s", draining=True)], "The matching runners are draining."),
        (queued(not_before=NOW + timedelta(hours=1)), [runner()], "Not before 2030-01-01 13:05:00 UTC."),
        (
            queued(withheld_by="r9"),
            [runner()],
            "Runner r9 lists an attempt of it that this control plane does not know.",
        ),
    ],
)
def test_a_waiting_run_says_why(run: QueuedRun, runners: list[RunnerView], sentence: str) -> None:
    result = placed([run], runners)
    assert result.offers == ()
    assert result.waiting == {"a": sentence}


def test_a_refusal_keeps_the_run_from_that_runner_and_from_no_other() -> None:
    refusals = Refusals(TIMING)
    refusals.add(RunId("a"), RunnerId("id-r"), "LOW_DISK: 2 GB left", 0.0)
    assert offers(placed([queued("a"), queued("b")], [runner("r"), runner("s")], refusals)) == [("a", "s"), ("b", "r")]
    alone = placed([queued("a")], [runner("r")], refusals)
    assert alone.waiting == {"a": "Runner r refused it: LOW_DISK: 2 GB left; it is asked again soon."}


def test_refusals_double_from_five_seconds_to_sixty() -> None:
    refusals = Refusals(TIMING)
    pair = (RunId("a"), RunnerId("r"))
    at_s = 0.0
    for delay_s in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
        refusals.add(*pair, "no", at_s)
        assert refusals.next_end_s(at_s) == at_s + delay_s
        assert refusals.standing(*pair, at_s + delay_s - 0.1) is not None
        assert refusals.standing(*pair, at_s + delay_s) is None
        at_s += delay_s
    refusals.forget(RunId("a"))
    assert refusals.next_end_s(0.0) is None


def test_refusals_are_bounded() -> None:
    refusals = Refusals(TIMING)
    for number in range(Refusals.CAPACITY + 1):
        refusals.add(RunId(f"run-{number}"), RunnerId("r"), "", 0.0)
    assert refusals.standing(RunId("run-0"), RunnerId("r"), 1.0) is None
    assert refusals.standing(RunId("run-1"), RunnerId("r"), 1.0) is not None


def test_a_big_run_reserves_a_runner_after_a_minute() -> None:
    big = queued("a", slots=4, eligible_since=NOW - timedelta(seconds=60))
    half_free = runner(slots=4, free=2)
    result = placed([big, queued("b")], [half_free])
    assert result.offers == ()
    assert result.waiting["a"] == "It needs 4 slots at once; a runner is reserved for it until they are free."
    assert result.waiting["b"] == "The matching runners are reserved for run a, which needs more slots."
    early = replace(big, eligible_since=NOW - timedelta(seconds=59))
    assert offers(placed([early, queued("b")], [half_free])) == [("b", "r")]
    assert offers(placed([big], [runner(slots=4)])) == [("a", "r")]


def test_a_reservation_takes_only_one_runner() -> None:
    big = queued("a", slots=4, eligible_since=NOW - timedelta(hours=1))
    result = placed([big, queued("b")], [runner("x", slots=4, free=3), runner("y", slots=4, free=1)])
    assert result.offers == (Match(run_id=RunId("b"), runner_id=RunnerId("id-y")),)
