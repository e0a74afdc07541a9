"""An independent word on when a cron expression fires: it walks every minute of the clock on the wall.

The rule around changes of the clock, as the documentation declares it:

- An expression whose minute or hour begins with a star follows real time: it fires at every minute that comes whose
  local time matches. A minute that is left out does not come, one that comes twice comes twice.
- Any other expression names local times. One that comes twice counts at its first coming; one that is left out counts
  at the first minute that there is behind it.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from itertools import takewhile
from zoneinfo import ZoneInfo

from control_plane.domain import cron

MINUTE = timedelta(minutes=1)
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}


@dataclass(frozen=True)
class Wanted:
    """The values of the five fields, each written out."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    real_time: bool

    def on(self, day: date) -> bool:
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        found = (of_month or of_week) if self.either_day else (of_month and of_week)
        return found and day.month in self.months

    def at(self, local: datetime) -> bool:
        return local.minute in self.minutes and local.hour in self.hours and self.on(local.date())


@cache
def wanted(expression: str) -> Wanted:
    minute, hour, day, month, weekday = expression.upper().split()
    return Wanted(
        minutes=_values(minute, 0, 59),
        hours=_values(hour, 0, 23),
        days=_values(day, 1, 31),
        months=_values(month, 1, 12, _MONTHS),
        weekdays=frozenset(value % 7 for value in _values(weekday, 0, 7, _DAYS)),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
        real_time=minute.startswith("*") or hour.startswith("*"),
    )


def _values(text: str, lowest: int, highest: int, names: dict[str, int] | None = None) -> frozenset[int]:
    found: set[int] = set()
    for term in text.split(","):
        base, _, step = term.partition("/")
        first, dash, last = base.partition("-")
        if base == "*":
            low, high = lowest, highest
        else:
            low, high = (_number(word, names) for word in (first, last if dash else first))
            high = highest if step and not dash else high
        found |= set(range(low, high + 1, int(step or 1)))
    return frozenset(found)


def _number(word: str, names: dict[str, int] | None) -> int:
    return names[word] if names and word in names else int(word)


def fire_times(expression: str, zone: ZoneInfo, first: datetime, last: datetime) -> list[datetime]:
    """Every instant (UTC) in (first, last), both on a whole minute."""
    fields = wanted(expression)
    if fields.real_time:
        return [at for at, local in minutes(zone, first, last) if first < at < last and fields.at(local)]
    clock: dict[datetime, datetime] = {}
    for at, local in minutes(zone, first, last):
        clock.setdefault(local, at)
    fired = set()
    local, end, skipped = min(clock), max(clock), False
    while local < end:
        if local not in clock:
            skipped = skipped or fields.at(local)
        else:
            if skipped or fields.at(local):
                fired.add(clock[local])
            skipped = False
        local += MINUTE
    return sorted(at for at in fired if first < at < last)


@cache
def minutes(zone: ZoneInfo, first: datetime, last: datetime) -> tuple[tuple[datetime, datetime], ...]:
    """Each minute with its name on the wall, also for three hours before and behind."""
    found = []
    at = first - 180 * MINUTE
    while at < last + 180 * MINUTE:
        found.append((at, at.astimezone(zone).replace(tzinfo=None)))
        at += MINUTE
    return tuple(found)


@dataclass(frozen=True)
class Transition:
    """The clock of a zone is set at an instant (UTC), from one distance from UTC to another."""

    zone: str
    at: datetime
    before: timedelta
    after: timedelta

    def expressions(self) -> tuple[str, ...]:
        """What fires around it: at its edges, inside of what is left out or comes twice, and in real time."""
        old, new = self.at + self.before, self.at + self.after
        low, high = min(old, new), max(old, new)
        inside = low + (high - low) / 2
        named = [_named(moment) for moment in (low - MINUTE, low, inside, high - MINUTE, high)]
        day, weekday = low.day, low.strftime("%a")
        return (
            *(f"{name} * * *" for name in named),
            f"{named[2]} {day} * *",
            f"{named[2]} * {low.month} {weekday}",
            f"{named[2]} {day} * {weekday}",
            f"0,20,45 {low.hour},{high.hour} * * *",
            f"7-59/26 {min(low.hour, high.hour)}-{max(low.hour, high.hour)} * * *",
            "0 0 * * *",
            "*/30 * * * *",
            "15 * * * *",
            f"*/20 {low.hour},{inside.hour},{high.hour} * * *",
            "40 */2 * * *",
        )


def _named(moment: datetime) -> str:
    return f"{moment.minute} {moment.hour}"


def transitions(zone_name: str, first: datetime, last: datetime) -> Iterator[Transition]:
    """Every change of a zone's distance from UTC in [first, last)."""
    zone, step = ZoneInfo(zone_name), timedelta(hours=12)
    at, before = first, _distance(zone, first)
    while at < last:
        after = _distance(zone, at + step)
        if after != before:
            low, high = at, at + step
            while high - low > MINUTE:
                middle = low + (high - low) // 2
                middle -= timedelta(seconds=middle.second, microseconds=middle.microsecond)
                low, high = (middle, high) if _distance(zone, middle) == before else (low, middle)
            yield Transition(zone_name, high, before, after)
            before = after
        at += step


def _distance(zone: ZoneInfo, at: datetime) -> timedelta:
    found = at.astimezone(zone).utcoffset()
    assert found is not None
    return found


def differences(transition: Transition) -> list[str]:
    """Where the product's firings within five hours of a change are others than the oracle's."""
    around = timedelta(hours=5)
    first, last = transition.at - around, transition.at + around
    zone = ZoneInfo(transition.zone)
    minutes.cache_clear()
    found = []
    for expression in transition.expressions():
        expected = fire_times(expression, zone, first, last)
        # Also asked in between, as a schedule does when it has fired.
        for asked in (first, *(transition.at + late * MINUTE for late in (-64, -13, 0, 17, 61))):
            fired = list(takewhile(lambda at: at < last, cron.fire_times(expression, asked, transition.zone)))
            if fired != [at for at in expected if at > asked]:
                found.append(f"{transition} {expression!r} behind {asked}: {fired} instead of {expected}")
    return found
