"""A schedule: when a task runs by itself, which instants are due, and which of them were missed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from itertools import islice
from typing import Protocol
from zoneinfo import available_timezones

from control_plane.domain import cron
from control_plane.domain.errors import FieldViolation
from control_plane.domain.ids import PrincipalId, ProjectId, RunId, ScheduleId, TaskId

EVERY_SHORTEST_S = 1.0
EVERY_LONGEST_S = 366 * 86_400.0
PREVIEW_DEFAULT = 10
PREVIEW_LARGEST = 100
# An instant that fires later than this was missed; up to here it is merely late.
LATE_AFTER_S = 60.0
# Missed instants are counted up to here.
MISSED_CAP = 200


class OverlapPolicy(StrEnum):
    """What happens when an instant comes while a run of the schedule is active."""

    SKIP = "SKIP"
    ALLOW = "ALLOW"


class CatchUpPolicy(StrEnum):
    """What happens to instants that were missed: nothing, or one run for all of them."""

    SKIP = "SKIP"
    ONE = "ONE"


class FiringOrigin(StrEnum):
    """Why a schedule fired: part of the key that lets nothing fire twice."""

    SCHEDULE = "SCHEDULE"
    MANUAL = "MANUAL"
    BACKFILL = "BACKFILL"


class Timed(Protocol):
    """The part of a schedule that says when. Exactly one of cron (not empty), every_s and once is set."""

    @property
    def cron(self) -> str: ...
    @property
    def every_s(self) -> float | None: ...
    @property
    def once(self) -> datetime | None: ...
    @property
    def time_zone(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDraft:
    """A schedule as a caller describes it. `task` is an id or a name."""

    name: str = ""
    task: str = ""
    cron: str = ""
    every_s: float | None = None
    once: datetime | None = None
    time_zone: str = "UTC"
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catch_up: CatchUpPolicy = CatchUpPolicy.SKIP


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule as stored. `next_fire_at` is None when it is paused or has no further instant."""

    id: ScheduleId
    project_id: ProjectId
    name: str
    task_id: TaskId
    task_name: str = ""
    cron: str = ""
    every_s: float | None = None
    once: datetime | None = None
    time_zone: str = "UTC"
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catch_up: CatchUpPolicy = CatchUpPolicy.SKIP
    paused: bool = False
    pause_note: str = ""
    next_fire_at: datetime | None = None
    last_fired_at: datetime | None = None
    last_run_id: RunId | None = None
    created_by: PrincipalId
    created_at: datetime
    updated_at: datetime
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringPlan:
    """What to do about a schedule now: the instant to fire (None: none), how many were missed, and the next one.

    `next_fire_at` may already be due: firing goes on with it. `missed` stops counting at MISSED_CAP.
    """

    fire_at: datetime | None
    missed: int
    missed_from: datetime | None
    next_fire_at: datetime | None


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def validate_when(timed: Timed, *, now: datetime, prefix: str = "schedule") -> tuple[FieldViolation, ...]:
    """Everything that is wrong with a schedule's cron, every, once and time zone."""
    found: list[FieldViolation] = []

    def wrong(field: str, description: str) -> None:
        found.append(FieldViolation(field=f"{prefix}.{field}", description=description))

    if sum((bool(timed.cron), timed.every_s is not None, timed.once is not None)) != 1:
        wrong("when", "exactly one of cron, every and once must be given")
    if timed.cron:
        try:
            cron.check(timed.cron)
        except cron.CronError as error:
            wrong("cron", str(error))
    if timed.every_s is not None and not EVERY_SHORTEST_S <= timed.every_s <= EVERY_LONGEST_S:
        wrong("every", f"it must be from {EVERY_SHORTEST_S:g} s to {EVERY_LONGEST_S / 86_400:g} days")
    if timed.once is not None and timed.once <= now:
        wrong("once", "it lies in the past")
    if timed.time_zone not in _zones():
        wrong("time_zone", f"{timed.time_zone[:64]!r} is not an IANA time zone, such as Europe/Berlin")
    return tuple(found)


def fire_times(timed: Timed, *, anchor: datetime, after: datetime) -> Iterator[datetime]:
    """The instants (UTC) behind `after`, in order. `every` counts from `anchor`, the schedule's birth."""
    if timed.cron:
        yield from cron.fire_times(timed.cron, after, timed.time_zone)
    elif timed.every_s is not None:
        step = timedelta(seconds=timed.every_s)
        number = max(1, (after - anchor) // step + 1)
        while True:
            yield (anchor + number * step).astimezone(UTC)
            number += 1
    elif timed.once is not None and timed.once > after:
        yield timed.once.astimezone(UTC)


def next_fire_at(schedule: Schedule, after: datetime) -> datetime | None:
    """The first instant behind `after`, whether the schedule is paused or not; None when there is none."""
    return next(fire_times(schedule, anchor=schedule.created_at, after=after), None)


def preview(timed: Timed, *, anchor: datetime, after: datetime, count: int = PREVIEW_DEFAULT) -> tuple[datetime, ...]:
    """The next `count` instants behind `after`."""
    return tuple(islice(fire_times(timed, anchor=anchor, after=after), count))


def plan_firing(schedule: Schedule, now: datetime, *, late_after_s: float = LATE_AFTER_S) -> FiringPlan:
    """Decide about the stored next_fire_at when it is due: on time, merely late, or missed.

    Instants older than `late_after_s` were missed: SKIP passes over them, ONE fires the newest of them for all.
    What is merely late fires one by one, whatever the policy.
    """
    due = schedule.next_fire_at
    if due is None or due > now or schedule.paused:
        return FiringPlan(fire_at=None, missed=0, missed_from=None, next_fire_at=due)
    cutoff = now - timedelta(seconds=late_after_s)
    if due >= cutoff:
        return FiringPlan(fire_at=due, missed=0, missed_from=None, next_fire_at=next_fire_at(schedule, due))
    missed = _count_missed(schedule, due, cutoff)
    following = next_fire_at(schedule, cutoff - timedelta(microseconds=1))
    if schedule.catch_up is CatchUpPolicy.ONE:
        newest = _newest_before(schedule, due, cutoff)
        return FiringPlan(fire_at=newest, missed=missed - 1, missed_from=due, next_fire_at=following)
    if following is None or following > now:
        return FiringPlan(fire_at=None, missed=missed, missed_from=due, next_fire_at=following)
    behind = next_fire_at(schedule, following)
    return FiringPlan(fire_at=following, missed=missed, missed_from=due, next_fire_at=behind)


def _count_missed(schedule: Schedule, due: datetime, cutoff: datetime) -> int:
    """How many instants lie in [due, cutoff), at most MISSED_CAP."""
    later = fire_times(schedule, anchor=schedule.created_at, after=due)
    count = 1
    for instant in islice(later, MISSED_CAP - 1):
        if instant >= cutoff:
            break
        count += 1
    return count


def _newest_before(schedule: Schedule, due: datetime, cutoff: datetime) -> datetime:
    """The last instant in [due, cutoff): looked for in windows that grow, so that a long absence costs little."""
    window = timedelta(minutes=2)
    while cutoff - window > due:
        newest = None
        for instant in fire_times(schedule, anchor=schedule.created_at, after=cutoff - window):
            if instant >= cutoff:
                break
            newest = instant
        if newest is not None:
            return newest
        window *= 4
    newest = due
    for instant in fire_times(schedule, anchor=schedule.created_at, after=due):
        if instant >= cutoff:
            break
        newest = instant
    return newest
