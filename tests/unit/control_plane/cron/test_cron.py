"""Cron expressions: what is refused and where the mistake is said to be, and when the rest fires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.domain import cron

START = datetime(2026, 1, 1, tzinfo=UTC)
CENTURY = datetime(2000, 1, 1, tzinfo=UTC)


def times(expression: str, zone: str, after: datetime, count: int) -> list[str]:
    """The next local times, with their offset from UTC."""
    found = islice(cron.fire_times(expression, after, zone), count)
    return [instant.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes") for instant in found]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "0 fields instead of five"),
        ("* * * *", "4 fields instead of five"),
        ("0 * * * * *", "6 fields instead of five"),
        ("60 * * * *", "field 1 (minute), at character 1: '60' is not a value from 0 to 59"),
        ("* 24 * * *", "field 2 (hour), at character 3"),
        ("*  24 * * *", "field 2 (hour), at character 4"),
        ("* * 0 * *", "field 3 (day of month), at character 5"),
        ("* * 1,2,32 * *", "field 3 (day of month), at character 9: '32'"),
        ("* * * 13 *", "field 4 (month), at character 7: '13' is not a value from 1 to 12 or a name from JAN to DEC"),
        ("* * * foo *", "'foo' is not a value"),
        ("* * * * 8", "field 5 (day of week), at character 9"),
        ("* * * * MON-", "'' is not a value"),
        ("5-1 * * * *", "the range '5-1' runs backwards"),
        ("*/0 * * * *", "the step '0' is not a number from 1 to 59"),
        ("*/x * * * *", "the step 'x'"),
        ("*/ * * * *", "the step ''"),
        ("1,,2 * * * *", "at character 3: there is nothing"),
        ("-1 * * * *", "'' is not a value"),
        ("1.5 * * * *", "'1.5' is not a value"),
        ("١ * * * *", "is not a value"),
        ("* * * * 5#6", "'6' is not a number from 1 to 5"),
        ("* * * * XL", "'XL' is not a day's number"),
        ("? * * * *", "'?' is not a value"),
        ("@reboot", "at character 1: '@reboot' is not an alias"),
        ("@every 5m", "not an alias"),
        ("0 0 30 2 *", "it would never fire"),
        ("0 0 31 2,4,6,9,11 *", "it would never fire"),
        ("0 0 30 feb */2", "it would never fire"),
        ("x" * 256, "256 characters"),
    ],
)
def test_a_mistake_is_named_with_its_place(expression: str, words: str) -> None:
    with pytest.raises(cron.CronError) as caught:
        cron.check(expression)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("* * * * *", "2026-01-01T00:01+00:00"),
        ("*/20 3-5 * * *", "2026-01-01T03:00+00:00"),
        ("5/20 * * * *", "2026-01-01T00:05+00:00"),
        ("0 9 * * mon-fri", "2026-01-01T09:00+00:00"),
        ("0 9 * * 0", "2026-01-04T09:00+00:00"),
        ("0 9 * * 7", "2026-01-04T09:00+00:00"),
        ("0 9 * * SUN", "2026-01-04T09:00+00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00+00:00"),
        ("0 0 L * *", "2026-01-31T00:00+00:00"),
        ("0 0 LW * *", "2026-01-30T00:00+00:00"),
        ("0 0 * * fri#2", "2026-01-09T00:00+00:00"),
        ("0 0 * * 5L", "2026-01-30T00:00+00:00"),
        ("0 0 13 * fri", "2026-01-02T00:00+00:00"),  # either day counts when both are given
        ("  0   0 1 jan  * ", "2027-01-01T00:00+00:00"),
        ("@hourly", "2026-01-01T01:00+00:00"),
        ("@DAILY", "2026-01-02T00:00+00:00"),
        ("@weekly", "2026-01-04T00:00+00:00"),
        ("@monthly", "2026-02-01T00:00+00:00"),
        ("@yearly", "2027-01-01T00:00+00:00"),
    ],
)
def test_expressions_fire_as_cron_does(expression: str, first: str) -> None:
    cron.check(expression)
    assert times(expression, "UTC", START, 1) == [first]


def test_a_skipped_local_time_fires_at_the_first_valid_instant_behind_it() -> None:
    after = datetime(2026, 3, 7, 12, tzinfo=UTC)
    assert times("30 2 * * *", "America/New_York", after, 2) == ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]
    # Two skipped times of one night become one firing.
    assert times("0,30 2 * * *", "America/New_York", after, 2) == ["2026-03-08T03:00-04:00", "2026-03-09T02:00-04:00"]


def test_a_repeated_local_time_fires_once() -> None:
    after = datetime(2026, 10, 31, 12, tzinfo=UTC)
    expected = ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]
    assert times("30 1 * * *", "America/New_York", after, 2) == expected
    # Asked between the two comings (01:15 for the second time): not again that day.
    between = datetime(2026, 11, 1, 6, 15, tzinfo=UTC)
    assert times("30 1 * * *", "America/New_York", between, 1) == expected[1:]


def test_expressions_that_begin_with_a_star_follow_real_time() -> None:
    after = datetime(2026, 11, 1, 5, 25, tzinfo=UTC)
    assert times("*/30 * * * *", "America/New_York", after, 4) == [
        "2026-11-01T01:30-04:00",
        "2026-11-01T01:00-05:00",
        "2026-11-01T01:30-05:00",
        "2026-11-01T02:00-05:00",
    ]
    after = datetime(2026, 3, 8, 6, 25, tzinfo=UTC)
    assert times("*/30 * * * *", "America/New_York", after, 2) == ["2026-03-08T01:30-05:00", "2026-03-08T03:00-04:00"]


ZONES = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Africa/Casablanca",
    "America/Santiago",  # the change is at midnight
    "Asia/Kathmandu",
    "Pacific/Apia",  # left out a whole day once
    "Asia/Beirut",
    "Pacific/Chatham",
]
EXPRESSIONS = [
    "* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 * * *", "15,45 1-3 * * *", "0 */3 * * *", "59 23 31 12 *",
    "0 12 * * mon-fri", "0 0 29 2 *", "*/15 0 * * 0", "0 3 L * *",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    expression=st.sampled_from(EXPRESSIONS),
    after=st.integers(0, 40 * 365 * 86_400).map(lambda second: CENTURY + timedelta(seconds=second)),
)
def test_instants_grow_and_do_not_depend_on_where_one_begins_to_look(
    zone: str, expression: str, after: datetime
) -> None:
    run = list(islice(cron.fire_times(expression, after, zone), 8))
    assert run == sorted(set(run))
    assert run[0] > after
    assert all(instant.second == instant.microsecond == 0 for instant in run)
    one_by_one, at = [], after
    for _ in range(8):
        at = next(cron.fire_times(expression, at, zone))
        one_by_one.append(at)
    assert one_by_one == run


@settings(max_examples=100, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    after=st.integers(0, 40 * 365 * 86_400).map(lambda second: CENTURY + timedelta(seconds=second)),
)
def test_a_daily_time_fires_about_once_a_day_whatever_the_clocks_do(
    zone: str, hour: int, minute: int, after: datetime
) -> None:
    run = list(islice(cron.fire_times(f"{minute} {hour} * * *", after, zone), 400))
    apart = [later - earlier for earlier, later in pairwise(run)]
    if zone == "Pacific/Apia":  # it left out a day: that day's firing comes at the next day's first instant
        assert all(gap <= timedelta(hours=26) for gap in apart)
    else:
        assert all(timedelta(hours=22) <= gap <= timedelta(hours=26) for gap in apart)
        assert len({instant.astimezone(ZoneInfo(zone)).date() for instant in run}) == len(run)
