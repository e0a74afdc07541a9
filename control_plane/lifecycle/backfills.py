"""Runs for a range of the past: each instant of a schedule that has not fired yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice, takewhile

from control_plane.domain.errors import ErrorCode, FailedPrecondition, FieldViolation, NotFound
from control_plane.domain.ids import RunId, ScheduleId
from control_plane.domain.principal import Caller
from control_plane.domain.run import TriggerType
from control_plane.domain.schedule import FiringOrigin, OverlapPolicy, Schedule, instants
from control_plane.domain.schedule_rules import EARLIEST, MOST_BACKFILLED
from control_plane.domain.task import Task
from control_plane.lifecycle.births import require_launcher
from control_plane.lifecycle.firings import TOPIC, Fired, Instant, given, take
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import refuse
from control_plane.lifecycle.variables import resolve
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

RUNS_A_VERB = 25
# In the range, with those that have fired: looking for more would take too long.
MOST_LOOKED_AT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Instants in [start_at, end_at), and how their runs get along. No end: up to now."""

    start_at: datetime | None
    end_at: datetime | None
    overlap: OverlapPolicy = OverlapPolicy.QUEUE_ALL
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfilled:
    """What fired, oldest first; without runs if it was only asked for. `fired_before`: instants that made nothing."""

    times: tuple[datetime, ...]
    run_ids: tuple[RunId, ...]
    fired_before: int


async def backfill(house: House, caller: Caller, schedule_id: ScheduleId, asked: Range) -> Backfilled:
    """Fire what has not fired in a range, paused or not; asking again makes nothing twice.

    Raises NotFound, InvalidArgument, FailedPrecondition TASK_INACTIVE, LIMIT_REACHED: then nothing fired.
    """
    asked = replace(asked, end_at=asked.end_at or house.clock.now())
    refuse(*_violations(house, asked))
    times, before = await house.database.read(partial(_wanted, schedule_id, asked))
    made: dict[datetime, RunId] = {}
    if not asked.dry_run:
        for start in range(0, len(times), RUNS_A_VERB):
            body = partial(_some, house, caller, schedule_id, asked.overlap, times[start : start + RUNS_A_VERB])
            fired = await house.database.write(body, name="schedules.backfill", after=partial(_tell, house))
            made |= {each.run.scheduled_time: each.run.id for each in fired if each.run and each.run.scheduled_time}
        # Somebody else may have fired one of them meanwhile.
        times, before = tuple(made), before + len(times) - len(made)
    return Backfilled(times=times, run_ids=tuple(made.values()), fired_before=before)


def _violations(house: House, asked: Range) -> list[FieldViolation]:
    found = []
    if asked.start_at is None:
        found.append(FieldViolation(field="start_at", description="must be given"))
    elif asked.start_at < EARLIEST:
        found.append(FieldViolation(field="start_at", description="must not lie before 1970"))
    if asked.end_at is not None and asked.end_at > house.clock.now():
        found.append(FieldViolation(field="end_at", description="must not lie in the future"))
    if asked.start_at is not None and asked.end_at is not None and asked.end_at <= asked.start_at:
        found.append(FieldViolation(field="start_at", description="must lie before end_at"))
    if asked.overlap not in (OverlapPolicy.QUEUE_ALL, OverlapPolicy.ALLOW):
        found.append(FieldViolation(field="overlap", description="only QUEUE_ALL and ALLOW make sense for a range"))
    return found


def _wanted(schedule_id: ScheduleId, asked: Range, connection: Connection) -> tuple[tuple[datetime, ...], int]:
    """The instants that are to fire, and how many in the range have fired."""
    schedule = _load(connection, schedule_id)
    if asked.start_at is None or asked.end_at is None:
        raise ValueError("the range was checked")
    first, end_at = asked.start_at, asked.end_at
    if schedule.forgotten_to is not None and first <= schedule.forgotten_to:
        text = f"what has fired up to {schedule.forgotten_to:%Y-%m-%d %H:%M:%S} UTC is no longer known"
        refuse(FieldViolation(field="start_at", description=text))
    fired = reads.fired_times(connection, schedule_id, first, end_at)
    ahead = takewhile(lambda instant: instant < end_at, instants(schedule, first - timedelta(microseconds=1)))
    looked_at = tuple(islice(ahead, MOST_LOOKED_AT + 1))
    wanted = tuple(instant for instant in looked_at if instant not in fired)
    if len(wanted) > MOST_BACKFILLED or len(looked_at) > MOST_LOOKED_AT:
        at = wanted[MOST_BACKFILLED] if len(wanted) > MOST_BACKFILLED else looked_at[-1]
        text = f"More than {MOST_BACKFILLED} instants are to fire: end this call before {at:%Y-%m-%dT%H:%M:%SZ}."
        raise FailedPrecondition(ErrorCode.LIMIT_REACHED, text, metadata={"limit": str(MOST_BACKFILLED)})
    return wanted, len(looked_at) - len(wanted)


def _some(
    house: House,
    caller: Caller,
    schedule_id: ScheduleId,
    overlap: OverlapPolicy,
    times: Sequence[datetime],
    connection: Connection,
) -> tuple[Fired, ...]:
    schedule = _load(connection, schedule_id)
    task = _task(house, connection, schedule)
    fired = []
    for scheduled_time in times:
        instant = Instant(
            origin=FiringOrigin.BACKFILL,
            scheduled_time=scheduled_time,
            trigger_type=TriggerType.BACKFILL,
            created_by=caller.principal.id,
            overlap=overlap,
            actor=caller.principal.name,
        )
        if writes.insert_firing(
            connection,
            schedule,
            origin=instant.origin,
            scheduled_time=scheduled_time,
            created_by=instant.created_by,
            at=house.clock.now(),
        ):
            fired.append(take(house, connection, schedule, task, instant))
    return tuple(fired)


def _task(house: House, connection: Connection, schedule: Schedule) -> Task:
    """The schedule's task, if it can run: else every instant of the range would be used up for nothing."""
    task = reads.task(connection, schedule.task_id)
    if task is None or task.deleted_at is not None:
        raise NotFound(ErrorCode.SCHEDULE_NOT_FOUND)
    if not task.active:
        raise FailedPrecondition(ErrorCode.TASK_INACTIVE, f"Task {task.name} is not active.")
    spec = house.spec(connection, task.spec_sha256)
    require_launcher(spec)
    resolve(connection, schedule.project_id, spec, given(schedule), task)
    return task


def _load(connection: Connection, schedule_id: ScheduleId) -> Schedule:
    schedule = reads.schedule(connection, schedule_id)
    if schedule is None:
        raise NotFound(ErrorCode.SCHEDULE_NOT_FOUND)
    return schedule


def _tell(house: House, fired: tuple[Fired, ...]) -> None:
    house.told(tuple(case for each in fired for case in each.cases))
    house.watch.notify(TOPIC)
