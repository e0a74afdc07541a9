"""Cron expressions: five fields or an alias, checked field by field, with Debian cron's rules around clock changes."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MAX_CHARACTERS = 255

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# In the repeated hour of a clock change a candidate may lie before the moment that was asked for.
_MAX_SKIPPED = 512
# No clock is set back by more.
_NEAR = timedelta(hours=4)


class CronError(ValueError):
    """An expression that cannot be used; the text names the field, the position (from 1) and what is wrong."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()
    first_name: int = 0

    def number(self, word: str) -> int | None:
        """The value of a number or a name, None if it is neither."""
        if word.upper() in self.names:
            return self.names.index(word.upper()) + self.first_name
        return int(word) if word.isascii() and word.isdigit() and len(word) <= 4 else None

    def fits(self, value: int) -> bool:
        return self.lowest <= value <= self.highest


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of week", 0, 7, _DAYS),
)


def normalised(expression: str) -> str:
    """The five fields that `expression` stands for. Raises CronError for an unknown alias."""
    text = expression.strip()
    if not text.startswith("@"):
        return text
    fields = ALIASES.get(text.lower())
    if fields is None:
        raise CronError(f"at character 1: {text!r} is not an alias; known are {', '.join(ALIASES)}")
    return fields


def check(expression: str) -> None:
    """Raise CronError when `expression` is not a cron expression or can never fire."""
    if len(expression) > MAX_CHARACTERS:
        raise CronError(f"it has {len(expression)} characters, more than {MAX_CHARACTERS}")
    text = normalised(expression)
    found = list(re.finditer(r"\S+", text))
    if len(found) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        raise CronError(f"it has {len(found)} fields instead of five ({names})")
    for number, (field, match) in enumerate(zip(_FIELDS, found, strict=True), 1):
        _check_field(field, number, match.group(), match.start() + 1)
    _check_possible(text)


def _check_field(field: _Field, number: int, text: str, position: int) -> None:
    for term in text.split(","):
        problem = _problem(field, term)
        if problem:
            raise CronError(f"field {number} ({field.name}), at character {position}: {problem}")
        position += len(term) + 1


def _problem(field: _Field, term: str) -> str:
    """What is wrong with one term of a list, empty if nothing is."""
    base, slash, step = term.partition("/")
    if slash and not (step.isascii() and step.isdigit() and 0 < int(step) <= field.highest):
        return f"the step {step!r} is not a number from 1 to {field.highest}"
    if not term:
        return "there is nothing between two commas, or before or behind one"
    if base == "*":
        return ""
    if field.name == "day of month" and base.upper() in ("L", "LW") and not slash:
        return ""
    if field.name == "day of week" and not slash and ("#" in base or base.upper().endswith("L")):
        return _nth_problem(field, base)
    first, dash, last = base.partition("-")
    for word in (first, last) if dash else (first,):
        value = field.number(word)
        if value is None or not field.fits(value):
            return f"{word!r} is not a value from {field.lowest} to {field.highest}" + _or_name(field)
    if dash and _value(field, last) < _value(field, first):
        return f"the range {base!r} runs backwards"
    return ""


def _nth_problem(field: _Field, base: str) -> str:
    """`FRI#2` is the second Friday of a month, `5L` the last one."""
    day, hash_sign, nth = base.partition("#")
    if not hash_sign:
        day, nth = base[:-1], "1"
        if not day.isdigit():
            return f"{base!r} is not a day's number followed by L"
    value = field.number(day)
    if value is None or not field.fits(value):
        return f"{day!r} is not a value from {field.lowest} to {field.highest}" + _or_name(field)
    if nth not in ("1", "2", "3", "4", "5"):
        return f"{nth!r} is not a number from 1 to 5"
    return ""


def _value(field: _Field, word: str) -> int:
    value = field.number(word)
    return field.lowest if value is None else value


def _or_name(field: _Field) -> str:
    return f" or a name from {field.names[0]} to {field.names[-1]}" if field.names else ""


def _check_possible(text: str) -> None:
    try:
        next(iter(CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))))
    except CronSimError:
        raise CronError("no month has such a day, so it would never fire") from None
    except StopIteration:
        raise CronError("there is no such day within 50 years, so it would never fire") from None


@lru_cache(maxsize=512)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def fire_times(expression: str, after: datetime, time_zone: str) -> Iterator[datetime]:
    """Every instant (UTC) behind `after` at which a checked expression fires in the zone, in order.

    A local time that a clock change skips fires at the first valid instant behind it, one that comes twice fires
    once, at its first coming; expressions whose minute or hour begins with a star follow real time instead: they fire
    whenever a local time comes that matches, also the second time.
    """
    text, zone = normalised(expression), _zone(time_zone)
    minute, hour = text.split()[:2]
    if minute.startswith("*") or hour.startswith("*"):
        yield from _in_real_time(text, after.astimezone(UTC), zone)
    else:
        yield from _at_local_times(text, after.astimezone(UTC), zone)


def _at_local_times(text: str, last: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    skipped = 0
    for local in CronSim(text, last.astimezone(zone)):
        instant = local.astimezone(UTC)
        if instant > last:
            last, skipped = instant, 0
            yield instant
        else:
            skipped += 1
            if skipped > _MAX_SKIPPED:
                return


def _in_real_time(text: str, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """CronSim walks the names of local times, without a zone; each name comes once, twice or never.

    (With a zone it steps into gaps that do not begin on the hour, and loses hours there.)
    """
    again: deque[datetime] = deque()
    for local in CronSim(text, after.astimezone(zone).replace(tzinfo=None) - _repeated(zone, after)):
        first, second = (local.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta(0) for fold in (0, 1))
        if first < second:
            continue  # left out
        coming = (local - first).replace(tzinfo=UTC)
        while again and again[0] < coming:
            yield again.popleft()
        if first > second and (local - second).replace(tzinfo=UTC) > after:
            again.append((local - second).replace(tzinfo=UTC))
        if coming > after:
            yield coming
    yield from again


def _repeated(zone: ZoneInfo, at: datetime) -> timedelta:
    """By how much the clock is set back a little before or behind this instant: names before it may come again."""
    offsets = [moment.astimezone(zone).utcoffset() or timedelta(0) for moment in (at - _NEAR, at, at + _NEAR)]
    return max(max(offsets[:2]) - min(offsets[1:]), timedelta(0))
