"""Around changes of the clock: firings equal those of an oracle that walks local minutes."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from control_plane.domain import cron
from tests.fakes import local_times
from tests.fakes.local_times import Transition, differences, transitions

FROM, TO = datetime(2020, 1, 1, tzinfo=UTC), datetime(2041, 1, 1, tzinfo=UTC)
# Half an hour, two hours, changes at midnight, four a year, and none at all but once.
ODD = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Africa/Casablanca"),
    *("Asia/Beirut", "America/Havana", "America/Scoresbysund", "Pacific/Chatham", "Asia/Gaza", "Africa/Juba"),
    # Its clock goes on by three hours at a minute past midnight.
    "Antarctica/Casey",
)
SAMPLED_ZONES = 12
A_ZONE = 3


@pytest.mark.parametrize("zone", ODD)
def test_firings_around_odd_changes_equal_those_of_the_oracle(zone: str) -> None:
    found = list(transitions(zone, FROM, TO))
    assert found
    for transition in found[:4] + found[-1:]:
        assert differences(transition) == []


def test_firings_around_sampled_changes_equal_those_of_the_oracle() -> None:
    seed = random.randrange(1 << 32)
    chosen = random.Random(seed)
    for zone in chosen.sample(sorted(available_timezones()), SAMPLED_ZONES):
        found = list(transitions(zone, FROM, TO))
        for transition in chosen.sample(found, min(A_ZONE, len(found))):
            assert differences(transition) == [], f"seed {seed}"


def test_the_oracle_tells_the_rules_apart() -> None:
    """It would notice: a rule about gaps and overlaps that is not ours gives other instants."""
    berlin = ZoneInfo("Europe/Berlin")
    spring, autumn = list(transitions("Europe/Berlin", FROM, TO))[:2]
    assert (spring.at, autumn.at) == (datetime(2020, 3, 29, 1, tzinfo=UTC), datetime(2020, 10, 25, 1, tzinfo=UTC))

    def fired(expression: str, transition: Transition) -> list[datetime]:
        around = timedelta(hours=5)
        return local_times.fire_times(expression, berlin, transition.at - around, transition.at + around)

    assert fired("30 2 * * *", spring) == [spring.at]
    assert fired("0,30 2 * * *", spring) == [spring.at]
    assert fired("30 * * * *", spring)[4:6] == [spring.at - timedelta(minutes=30), spring.at + timedelta(minutes=30)]
    assert fired("30 2 * * *", autumn) == [autumn.at - timedelta(minutes=30)]
    assert fired("30 * 25 10 *", autumn) == [autumn.at + timedelta(minutes=30 + 60 * hour) for hour in range(-3, 5)]


def test_every_zone_of_a_schedule_can_be_asked() -> None:
    for zone in sorted(available_timezones()):
        (first,) = itertools.islice(cron.fire_times("0 12 * * *", FROM, zone), 1)
        assert first.astimezone(ZoneInfo(zone)).hour == 12
