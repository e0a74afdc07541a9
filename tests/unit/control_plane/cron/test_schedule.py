"""Schedules: what is refused, the next instants, and what becomes of those that were missed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain.firings import LATE_AFTER_S, MISSED_CAP, FiringPlan, plan_firing
from control_plane.domain.ids import PrincipalId, ProjectId, ScheduleId, TaskId
from control_plane.domain.schedule import CatchUpPolicy, Schedule, ScheduleDraft, instants, next_fire_at, preview
from control_plane.domain.schedule_rules import MAX_CATCH_UP, validate_policies, validate_when

BORN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def schedule(**changes: object) -> Schedule:
    base: dict[str, object] = {
        "id": ScheduleId("s"), "project_id": ProjectId("p"), "name": "nightly", "task_id": TaskId("t"),
        "created_by": PrincipalId("u"), "created_at": BORN, "updated_at": BORN, "etag": "1",
    }  # fmt: skip
    made = Schedule(**(base | changes))  # type: ignore[arg-type]
    return made if "next_fire_at" in changes else replace(made, next_fire_at=next_fire_at(made, BORN))


def at(seconds: float) -> datetime:
    return BORN + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("draft", "fields"),
    [
        ({}, ["when"]),
        ({"cron": "* * * * *", "every_s": 5.0}, ["when"]),
        ({"cron": "61 * * * *"}, ["cron"]),
        ({"every_s": 0.999}, ["every"]),
        ({"every_s": 1.0}, []),
        ({"every_s": 366 * 86_400.0}, []),
        ({"every_s": 366 * 86_400.0 + 1}, ["every"]),
        ({"every_s": -5.0}, ["every"]),
        ({"every_s": float("nan")}, ["every"]),
        ({"once": at(0)}, ["once"]),
        ({"once": at(1)}, []),
        ({"cron": "@daily", "time_zone": "Europe/Berlin"}, []),
        ({"cron": "@daily", "time_zone": "Mars/Olympus"}, ["time_zone"]),
        ({"cron": "@daily", "time_zone": ""}, ["time_zone"]),
        ({"cron": "@daily", "time_zone": "../etc/passwd"}, ["time_zone"]),
        ({"cron": "@daily", "time_zone": "right/UTC"}, ["time_zone"]),
        (
            {"cron": "* *", "once": at(-1), "every_s": 0.0, "time_zone": "x"},
            ["when", "cron", "every", "once", "time_zone"],
        ),
    ],
)
def test_everything_that_is_wrong_is_named_at_once(draft: dict[str, object], fields: list[str]) -> None:
    violations = validate_when(ScheduleDraft(**draft), now=BORN)  # type: ignore[arg-type]
    assert [violation.field for violation in violations] == [f"schedule.{field}" for field in fields]


def test_an_interval_counts_from_the_birth_of_its_schedule() -> None:
    every = schedule(every_s=90.0)
    assert every.next_fire_at == at(90)
    assert next_fire_at(every, at(90)) == at(180)
    assert next_fire_at(every, at(179.999999)) == at(180)
    assert next_fire_at(every, at(-1000)) == at(-990)
    assert next_fire_at(every, at(90 * 10_000_000)) == at(90 * 10_000_001)


@given(every_s=st.floats(1.0, 1e6), after_s=st.floats(0, 1e9))
def test_intervals_do_not_drift(every_s: float, after_s: float) -> None:
    every = schedule(every_s=every_s)
    found = next_fire_at(every, at(after_s))
    assert found is not None
    assert found > at(after_s)
    step = timedelta(seconds=every_s)
    assert found - step <= at(after_s)
    assert (found - BORN) % step == timedelta(0)


def test_once_fires_once() -> None:
    once = schedule(once=at(10))
    assert once.next_fire_at == at(10)
    assert next_fire_at(once, at(10)) is None
    assert plan_firing(once, at(11)) == FiringPlan(fire_at=at(10), missed=0, missed_from=None, next_fire_at=None)


def test_a_preview_is_what_will_fire() -> None:
    draft = ScheduleDraft(every_s=60.0)
    assert preview(draft, anchor=BORN, after=BORN, count=3) == (at(60), at(120), at(180))
    assert preview(ScheduleDraft(once=at(5)), anchor=BORN, after=BORN, count=10) == (at(5),)
    assert len(preview(ScheduleDraft(cron="@daily", time_zone="Asia/Tokyo"), anchor=BORN, after=BORN, count=100)) == 100


def test_what_is_not_due_is_left_alone() -> None:
    every = schedule(every_s=60.0)
    assert plan_firing(every, at(59)) == FiringPlan(fire_at=None, missed=0, missed_from=None, next_fire_at=at(60))
    assert plan_firing(replace(every, paused=True), at(61)).fire_at is None


@pytest.mark.parametrize("policy", list(CatchUpPolicy))
def test_what_is_merely_late_fires_one_by_one_under_any_policy(policy: CatchUpPolicy) -> None:
    every = schedule(every_s=10.0, catch_up=policy)
    fired = []
    while True:
        plan = plan_firing(every, at(45))
        if plan.fire_at is None:
            break
        assert plan.missed == 0
        fired.append(plan.fire_at)
        every = replace(every, next_fire_at=plan.next_fire_at)
    assert fired == [at(10), at(20), at(30), at(40)]


def test_missed_instants_are_passed_over_and_counted() -> None:
    every = schedule(every_s=100.0, catch_up=CatchUpPolicy.SKIP)
    plan = plan_firing(every, at(1_010))
    assert plan == FiringPlan(fire_at=at(1_000), missed=9, missed_from=at(100), next_fire_at=at(1_100))
    plan = plan_firing(every, at(1_070))
    assert plan == FiringPlan(fire_at=None, missed=10, missed_from=at(100), next_fire_at=at(1_100))


def test_one_run_makes_up_for_all_that_were_missed() -> None:
    every = schedule(every_s=100.0, catch_up=CatchUpPolicy.ONE)
    plan = plan_firing(every, at(1_010))
    assert plan == FiringPlan(fire_at=at(900), missed=8, missed_from=at(100), next_fire_at=at(1_000))
    plan = plan_firing(every, at(1_070))
    assert plan == FiringPlan(fire_at=at(1_000), missed=9, missed_from=at(100), next_fire_at=at(1_100))
    once = schedule(once=at(10), catch_up=CatchUpPolicy.ONE)
    plan = plan_firing(once, at(10_000))
    assert plan == FiringPlan(fire_at=at(10), missed=0, missed_from=at(10), next_fire_at=None)


def test_a_missed_once_that_is_not_made_up_for_is_over() -> None:
    once = schedule(once=at(10))
    plan = plan_firing(once, at(10_000))
    assert plan == FiringPlan(fire_at=None, missed=1, missed_from=at(10), next_fire_at=None)


def test_years_of_absence_cost_little() -> None:
    years = timedelta(days=3_650)
    every_second = schedule(every_s=1.0, catch_up=CatchUpPolicy.ONE)
    plan = plan_firing(every_second, BORN + years)
    assert plan.missed == MISSED_CAP - 1
    assert plan.fire_at == BORN + years - timedelta(seconds=LATE_AFTER_S + 1)
    yearly = schedule(cron="0 0 29 2 *", catch_up=CatchUpPolicy.ONE)
    assert plan_firing(yearly, BORN + years).fire_at == datetime(2032, 2, 29, tzinfo=UTC)
    minutely = schedule(cron="* * * * *", catch_up=CatchUpPolicy.ONE)
    plan = plan_firing(minutely, BORN + years)
    assert plan.fire_at == BORN + years - timedelta(seconds=120)
    assert plan.next_fire_at == BORN + years - timedelta(seconds=60)


@given(
    every_s=st.sampled_from([1.0, 7.0, 45.0, 61.0, 3_600.0]),
    policy=st.sampled_from(list(CatchUpPolicy)),
    pauses_ms=st.lists(st.integers(100, 900_000), min_size=1, max_size=12),
)
def test_every_instant_is_fired_at_most_once_or_counted_as_missed(
    every_s: float, policy: CatchUpPolicy, pauses_ms: list[int]
) -> None:
    """A server that looks at odd moments: instants in order, none twice, none forgotten."""
    every = schedule(every_s=every_s, catch_up=policy)
    now_ms, fired, accounted = 0, [], 0
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        now = now_ms / 1000
        while every.next_fire_at is not None and every.next_fire_at <= at(now):
            plan = plan_firing(every, at(now))
            fired += [plan.fire_at] if plan.fire_at else []
            accounted += plan.missed + (plan.fire_at is not None)
            assert plan.missed < MISSED_CAP - 1 or every_s == 1.0
            every = replace(every, next_fire_at=plan.next_fire_at)
    assert fired == sorted(set(fired))
    if every_s > 5:
        assert accounted == int(now // every_s)
    if policy is not CatchUpPolicy.SKIP and now >= every_s:
        assert fired


@pytest.mark.parametrize(
    ("draft", "fields"),
    [
        ({"start_at": at(10), "end_at": at(10)}, ["end_at"]),
        ({"start_at": at(10), "end_at": at(11)}, []),  # every: its start is its first instant
        ({"end_at": at(60)}, ["end_at"]),
        ({"end_at": at(60.000001)}, []),
        ({"start_at": at(-100), "end_at": at(-10)}, ["end_at"]),
        ({"start_at": at(86_400 * 36_525)}, []),
        ({"start_at": datetime(1970, 1, 1, tzinfo=UTC)}, []),
        ({"start_at": datetime(1, 1, 1, tzinfo=UTC)}, ["start_at"]),
        ({"start_at": at(86_400 * 36_525 + 1), "end_at": at(86_400 * 36_525 + 2)}, ["start_at", "end_at"]),
        ({"every_s": None, "once": at(60), "start_at": at(61)}, ["start_at"]),
        ({"every_s": None, "once": at(60), "start_at": at(60), "end_at": at(61)}, []),
        ({"every_s": None, "once": at(86_400 * 36_525 + 1)}, ["once"]),
        ({"every_s": None, "cron": "0 0 29 2 *", "end_at": at(86_400 * 365)}, ["end_at"]),
    ],
)
def test_a_window_holds_an_instant_that_is_to_come(draft: dict[str, object], fields: list[str]) -> None:
    violations = validate_when(ScheduleDraft(**({"every_s": 60.0} | draft)), now=BORN)  # type: ignore[arg-type]
    assert [violation.field for violation in violations] == [f"schedule.{field}" for field in fields]


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("jitter_s", (0.0, 86_400.0), (-0.1, 86_400.1, float("nan"))),
        ("max_catch_up", (0, 1, 100), (-1, 101)),
        ("pause_after_failures", (0, 1, 100), (-1, 101)),
        ("pause_note", ("", "n" * 1_024), ("n" * 1_025, "a\0b")),
    ],
)
def test_limits_of_what_a_schedule_says(field: str, good: tuple[object, ...], bad: tuple[object, ...]) -> None:
    for value in good:
        assert not validate_policies(ScheduleDraft(**{field: value}))  # type: ignore[arg-type]
    for value in bad:
        (violation,) = validate_policies(ScheduleDraft(**{field: value}))  # type: ignore[arg-type]
        assert violation.field == f"schedule.{field.removesuffix('_s')}"


def test_a_window_bounds_the_instants() -> None:
    draft = ScheduleDraft(every_s=60.0, start_at=at(90), end_at=at(270))
    assert preview(draft, anchor=at(90), after=BORN, count=10) == (at(90), at(150), at(210))
    assert preview(draft, anchor=at(90), after=at(150), count=10) == (at(210),)
    stored = schedule(every_s=60.0, start_at=at(90), end_at=at(270))
    assert stored.next_fire_at == at(90)
    assert next_fire_at(stored, at(210)) is None
    daily = ScheduleDraft(cron="0 12 * * *", start_at=BORN + timedelta(days=1), end_at=BORN + timedelta(days=3))
    assert len(preview(daily, anchor=BORN, after=BORN - timedelta(days=9), count=10)) == 2


def test_jitter_delays_each_instant_by_the_same_part_of_it() -> None:
    made = [schedule(id=ScheduleId(f"s{number}"), every_s=600.0, jitter_s=100.0) for number in range(200)]
    offsets = [each.offset for each in made]
    assert all(timedelta(0) <= offset <= timedelta(seconds=100) for offset in offsets)
    assert len({offset // timedelta(seconds=10) for offset in offsets}) == 10, "spread over the whole of it"
    one = made[0]
    assert one.next_fire_at == at(600) + one.offset
    plan = plan_firing(one, one.next_fire_at)
    assert plan == FiringPlan(
        fire_at=at(600), missed=0, missed_from=None, next_fire_at=at(1_200) + one.offset
    )  # what fires is the instant that is meant
    assert plan_firing(one, one.next_fire_at - timedelta(microseconds=1)).fire_at is None
    late = plan_firing(one, at(6_030) + one.offset)
    assert (late.fire_at, late.missed, late.missed_from) == (at(6_000), 9, at(600))


@pytest.mark.parametrize(
    ("most", "first", "missed"), [(0, 100, 0), (1, 900, 8), (3, 700, 6), (9, 100, 0), (10, 100, 0)]
)
def test_all_that_were_missed_are_made_up_for_up_to_a_number(most: int, first: float, missed: int) -> None:
    every = schedule(every_s=100.0, catch_up=CatchUpPolicy.ALL, max_catch_up=most)
    fired, passed = [], 0
    while (plan := plan_firing(every, at(1_010))).fire_at is not None:
        fired.append(plan.fire_at)
        passed += plan.missed
        assert (plan.missed_from is None) == (plan.missed == 0)
        every = replace(every, next_fire_at=plan.next_fire_at)
    assert fired == [at(seconds) for seconds in range(int(first), 1_001, 100)]
    assert passed == missed


def test_a_long_absence_is_made_up_for_by_the_newest() -> None:
    rare = schedule(cron="0 0 29 2 *", catch_up=CatchUpPolicy.ALL, max_catch_up=2)
    plan = plan_firing(rare, BORN + timedelta(days=3_650))
    assert (plan.fire_at, plan.missed) == (datetime(2028, 2, 29, tzinfo=UTC), 0)
    often = schedule(cron="* * * * *", catch_up=CatchUpPolicy.ALL)
    plan = plan_firing(often, BORN + timedelta(days=3_650))
    assert plan.fire_at == BORN + timedelta(days=3_650, seconds=-60 * (MAX_CATCH_UP + 1))
    assert plan.missed == MISSED_CAP


def test_an_interval_that_counts_anew_has_instants_of_its_own() -> None:
    every = schedule(every_s=60.0)
    anew = replace(every, phase_us=1)
    first, second = (next(instants(each, at(30))) for each in (every, anew))
    assert second - first == timedelta(microseconds=1)
