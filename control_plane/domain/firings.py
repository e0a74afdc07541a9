"""What is to be done about a schedule that is due: which instant fires, and which were missed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from control_plane.domain.schedule import CatchUpPolicy, Schedule, instants, next_fire_at
from control_plane.domain.schedule_rules import MAX_CATCH_UP

# An instant that fires later than this was missed; up to here it is merely late.
LATE_AFTER_S = 60.0
# Missed instants are counted up to here.
MISSED_CAP = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringPlan:
    """What to do about a schedule now: the instant to fire (None: none), how many were missed, and when it is due next.

    `next_fire_at` may already be due: firing goes on with it. `missed` stops counting at MISSED_CAP.
    """

    fire_at: datetime | None
    missed: int
    missed_from: datetime | None
    next_fire_at: datetime | None


def plan_firing(schedule: Schedule, now: datetime, *, late_after_s: float = LATE_AFTER_S) -> FiringPlan:
    """Decide about the stored next_fire_at when it is due: on time, merely late, or missed.

    Instants that are late by more than `late_after_s` were missed: SKIP passes over them, ONE fires the newest of them
    for all, ALL fires the newest max_catch_up of them. What is merely late fires one by one, whatever the policy.
    """
    if schedule.next_fire_at is None or schedule.next_fire_at > now or schedule.paused:
        return FiringPlan(fire_at=None, missed=0, missed_from=None, next_fire_at=schedule.next_fire_at)
    # What fires is the instant that is meant; the jitter only lets it come later.
    due = schedule.next_fire_at - schedule.offset
    cutoff = now - schedule.offset - timedelta(seconds=late_after_s)
    if due >= cutoff:
        return _fire(schedule, due)
    match schedule.catch_up:
        case CatchUpPolicy.SKIP:
            return _pass_over(schedule, due, cutoff, now)
        case CatchUpPolicy.ONE:
            newest = _newest(schedule, due, cutoff, 1)[0]
            missed = _count_missed(schedule, due, cutoff) - 1
            return FiringPlan(
                fire_at=newest, missed=missed, missed_from=due, next_fire_at=_first_kept(schedule, cutoff)
            )
        case CatchUpPolicy.ALL:
            first = _newest(schedule, due, cutoff, schedule.max_catch_up or MAX_CATCH_UP)[0]
            return _fire(schedule, first, missed=_count_missed(schedule, due, first), missed_from=due)


def _fire(schedule: Schedule, instant: datetime, *, missed: int = 0, missed_from: datetime | None = None) -> FiringPlan:
    following = next_fire_at(schedule, instant + schedule.offset)
    return FiringPlan(
        fire_at=instant, missed=missed, missed_from=missed_from if missed else None, next_fire_at=following
    )


def _pass_over(schedule: Schedule, due: datetime, cutoff: datetime, now: datetime) -> FiringPlan:
    missed = _count_missed(schedule, due, cutoff)
    kept = _first_kept(schedule, cutoff)
    if kept is None or kept > now:
        return FiringPlan(fire_at=None, missed=missed, missed_from=due, next_fire_at=kept)
    return _fire(schedule, kept - schedule.offset, missed=missed, missed_from=due)


def _first_kept(schedule: Schedule, cutoff: datetime) -> datetime | None:
    """When the first instant that was not missed is due."""
    return next_fire_at(schedule, cutoff + schedule.offset - timedelta(microseconds=1))


def _count_missed(schedule: Schedule, due: datetime, cutoff: datetime) -> int:
    """How many instants lie in [due, cutoff), at most MISSED_CAP."""
    if due >= cutoff:
        return 0
    count = 1
    for instant in islice(instants(schedule, due), MISSED_CAP - 1):
        if instant >= cutoff:
            break
        count += 1
    return count


def _newest(schedule: Schedule, due: datetime, cutoff: datetime, count: int) -> list[datetime]:
    """The last `count` instants in [due, cutoff), or all; in windows that grow, as an absence may be long."""
    window = timedelta(minutes=2)
    while cutoff - window > due:
        found = _between(schedule, cutoff - window, cutoff)
        if len(found) >= count:
            return found[-count:]
        window *= 4
    return [due, *_between(schedule, due, cutoff)][-count:]


def _between(schedule: Schedule, after: datetime, before: datetime) -> list[datetime]:
    found = []
    for instant in instants(schedule, after):
        if instant >= before:
            break
        found.append(instant)
    return found
