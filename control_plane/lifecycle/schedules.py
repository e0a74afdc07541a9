"""Verbs on schedules: when a task runs by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from control_plane.domain import limits
from control_plane.domain.errors import (
    AlreadyExists,
    ErrorCode,
    FailedPrecondition,
    FieldViolation,
    NotFound,
)
from control_plane.domain.ids import ProjectId, ScheduleId
from control_plane.domain.names import check_name, check_text
from control_plane.domain.principal import Caller
from control_plane.domain.schedule import (
    CatchUpPolicy,
    OverlapPolicy,
    Schedule,
    ScheduleDraft,
    next_fire_at,
    validate_when,
)
from control_plane.lifecycle.firings import fire, trigger
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import (
    FIRST_ETAG,
    check_etag,
    next_etag,
    once,
    refuse,
    request_id_violations,
    require_saved,
)
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

__all__ = ["ScheduleChange", "When", "create", "delete", "fire", "pause", "resume", "trigger", "update"]

TOPIC = "schedules"


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Exactly one of the three."""

    cron: str = ""
    every_s: float | None = None
    once: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChange:
    """None leaves a field as it is; an empty etag does not guard the change."""

    name: str | None = None
    when: When | None = None
    time_zone: str | None = None
    overlap: OverlapPolicy | None = None
    catch_up: CatchUpPolicy | None = None
    etag: str = ""


async def create(house: House, caller: Caller, project_id: ProjectId, draft: ScheduleDraft) -> Schedule:
    """Raises InvalidArgument with every offending field, NotFound TASK_NOT_FOUND, AlreadyExists."""
    refuse(
        *check_name(draft.name, "schedule.name"),
        *_task_violations(draft.task),
        *validate_when(draft, now=house.clock.now()),
        *request_id_violations(caller),
    )

    def body(connection: Connection) -> Schedule:
        return once(
            connection,
            caller,
            "CreateSchedule",
            (project_id, draft),
            now=house.clock.now(),
            kept_s=house.timing.request_id_kept_s,
            load=lambda known: reads.schedule(connection, ScheduleId(known)),
            make=lambda: insert_in(house, connection, caller, project_id, draft),
        )

    return await house.database.write(body, name="schedules.create", after=partial(_tell, house))


async def update(house: House, schedule_id: ScheduleId, change: ScheduleChange) -> Schedule:
    """Another time makes a new next instant. Raises NotFound, Aborted, AlreadyExists NAME_TAKEN, InvalidArgument."""
    body = partial(_update, house, schedule_id, change)
    return await house.database.write(body, name="schedules.update", after=partial(_tell, house))


async def delete(house: House, schedule_id: ScheduleId, etag: str = "") -> None:
    """The runs that it made stay. Raises NotFound, Aborted ETAG_MISMATCH."""

    def body(connection: Connection) -> None:
        _load(connection, schedule_id, etag)
        writes.delete_schedule(connection, schedule_id)

    await house.database.write(body, name="schedules.delete", after=lambda _: house.watch.notify(TOPIC))


async def pause(house: House, schedule_id: ScheduleId, note: str = "") -> Schedule:
    """Nothing fires until it is resumed. Raises NotFound, InvalidArgument."""
    refuse(*check_text(note, "note", limits.CANCEL_NOTE_BYTES))

    def body(connection: Connection) -> Schedule:
        old = _load(connection, schedule_id)
        return _save(house, connection, old, replace(old, paused=True, pause_note=note, next_fire_at=None))

    return await house.database.write(body, name="schedules.pause", after=partial(_tell, house))


async def resume(house: House, schedule_id: ScheduleId) -> Schedule:
    """Goes on with the next instant from now; what lay in the pause is not made up for.

    Raises NotFound, FailedPrecondition SCHEDULE_ENDED when no instant is left.
    """

    def body(connection: Connection) -> Schedule:
        old = _load(connection, schedule_id)
        if not old.paused:
            return old
        following = next_fire_at(old, after=house.clock.now())
        if following is None:
            raise FailedPrecondition(ErrorCode.SCHEDULE_ENDED)
        return _save(house, connection, old, replace(old, paused=False, pause_note="", next_fire_at=following))

    return await house.database.write(body, name="schedules.resume", after=partial(_tell, house))


def _tell(house: House, _: Schedule) -> None:
    house.watch.notify(TOPIC)


def draft_violations(house: House, draft: ScheduleDraft, path: str) -> tuple[FieldViolation, ...]:
    """Everything that is wrong with a new schedule but its task."""
    return (*check_name(draft.name, f"{path}.name"), *validate_when(draft, now=house.clock.now(), prefix=path))


def insert_in(
    house: House, connection: Connection, caller: Caller, project_id: ProjectId, draft: ScheduleDraft
) -> Schedule:
    """A new schedule inside a transaction of the caller's, who wakes TOPIC after the commit; it is checked already.

    Raises NotFound TASK_NOT_FOUND, AlreadyExists NAME_TAKEN.
    """
    task = reads.the_task(connection, project_id, draft.task)
    _refuse_taken(connection, project_id, draft.name)
    now = house.clock.now()
    schedule = Schedule(
        id=ScheduleId(house.clock.new_id()),
        project_id=project_id,
        name=draft.name,
        task_id=task.id,
        task_name=task.name,
        cron=draft.cron,
        every_s=draft.every_s,
        once=draft.once,
        time_zone=draft.time_zone,
        overlap=draft.overlap,
        catch_up=draft.catch_up,
        created_by=caller.principal.id,
        created_at=now,
        updated_at=now,
        etag=FIRST_ETAG,
    )
    schedule = replace(schedule, next_fire_at=next_fire_at(schedule, after=now))
    writes.insert_schedule(connection, schedule)
    return schedule


def _update(house: House, schedule_id: ScheduleId, change: ScheduleChange, connection: Connection) -> Schedule:
    old = _load(connection, schedule_id, change.etag)
    now = house.clock.now()
    when = change.when or When(cron=old.cron, every_s=old.every_s, once=old.once)
    new = replace(
        old,
        name=old.name if change.name is None else change.name,
        cron=when.cron,
        every_s=when.every_s,
        once=when.once,
        time_zone=old.time_zone if change.time_zone is None else change.time_zone,
        overlap=old.overlap if change.overlap is None else change.overlap,
        catch_up=old.catch_up if change.catch_up is None else change.catch_up,
    )
    moved = (new.cron, new.every_s, new.once, new.time_zone) != (old.cron, old.every_s, old.once, old.time_zone)
    refuse(*check_name(new.name, "schedule.name"), *(validate_when(new, now=now) if moved else ()))
    if new.name != old.name:
        _refuse_taken(connection, old.project_id, new.name)
    if moved and not new.paused:
        new = replace(new, next_fire_at=next_fire_at(new, after=now))
    return _save(house, connection, old, new)


def _save(house: House, connection: Connection, old: Schedule, new: Schedule) -> Schedule:
    new = replace(new, updated_at=house.clock.now(), etag=next_etag(old.etag))
    require_saved(writes.save_schedule(connection, old, new))
    return new


def _load(connection: Connection, schedule_id: ScheduleId, etag: str = "") -> Schedule:
    schedule = reads.schedule(connection, schedule_id)
    if schedule is None:
        raise NotFound(ErrorCode.SCHEDULE_NOT_FOUND)
    check_etag(schedule.etag, etag)
    return schedule


def _refuse_taken(connection: Connection, project_id: ProjectId, name: str) -> None:
    """A schedule that stands still because its task was deleted gives its name away."""
    if reads.find_schedule(connection, project_id, name) is not None:
        raise AlreadyExists(ErrorCode.NAME_TAKEN, f"There is a schedule {name!r} in this project already.")
    stopped = reads.stopped_schedule(connection, project_id, name)
    if stopped is not None:
        other = f"{name[: limits.NAME_CHARACTERS - 11]} ({stopped.id[-8:]})"
        require_saved(writes.save_schedule(connection, stopped, replace(stopped, name=other)))


def _task_violations(task: str) -> tuple[FieldViolation, ...]:
    return () if task else (FieldViolation(field="schedule.task_id", description="must not be empty"),)
