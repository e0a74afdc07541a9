"""Verbs on schedules: when a task runs by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from typing import Any

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
)
from control_plane.domain.schedule_rules import validate_policies, validate_when
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import Task
from control_plane.lifecycle import notices
from control_plane.lifecycle.firings import fire, trigger
from control_plane.lifecycle.house import House
from control_plane.lifecycle.notices import keep_pause
from control_plane.lifecycle.requests import (
    FIRST_ETAG,
    check_etag,
    next_etag,
    once,
    refuse,
    request_id_violations,
    require_saved,
    write,
)
from control_plane.lifecycle.variables import Given, given_violations, resolve
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

__all__ = ["ScheduleChange", "When", "create", "delete", "fire", "pause", "resume", "trigger", "update"]

TOPIC = "schedules"
_TIMES = ("cron", "every_s", "once", "time_zone", "start_at", "end_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Exactly one of the three."""

    cron: str = ""
    every_s: float | None = None
    once: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """None: open on that side."""

    start_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChange:
    """None leaves a field as it is; an empty etag does not guard the change."""

    name: str | None = None
    when: When | None = None
    time_zone: str | None = None
    overlap: OverlapPolicy | None = None
    catch_up: CatchUpPolicy | None = None
    max_catch_up: int | None = None
    jitter_s: float | None = None
    # Of a window only what stands in `window_fields` changes.
    window: Window | None = None
    window_fields: frozenset[str] = frozenset()
    pause_after_failures: int | None = None
    variables: Mapping[str, str] | None = None
    etag: str = ""


async def create(
    house: House, caller: Caller, project_id: ProjectId, draft: ScheduleDraft, *, validate_only: bool = False
) -> Schedule:
    """Raises InvalidArgument with every offending field, NotFound TASK_NOT_FOUND, AlreadyExists."""
    wrong = (*check_name(draft.name, "schedule.name"), *_task_violations(draft.task), *_rules(house, draft, "schedule"))
    refuse(*request_id_violations(caller))

    def fresh(connection: Connection) -> Schedule:
        task = reads.find_task(connection, project_id, draft.task) if draft.task else None
        refuse(*wrong, *(() if task is None else _given_violations(house, connection, draft, task)))
        return insert_in(house, connection, caller, project_id, draft)

    def body(connection: Connection) -> Schedule:
        return once(
            connection,
            caller,
            "CreateSchedule",
            (project_id, draft),
            now=house.clock.now(),
            kept_s=house.timing.request_id_kept_s,
            load=lambda known: reads.schedule(connection, ScheduleId(known)),
            make=lambda: fresh(connection),
        )

    after = partial(_tell, house)
    return await write(house.database, body, name="schedules.create", after=after, validate_only=validate_only)


async def update(
    house: House, schedule_id: ScheduleId, change: ScheduleChange, *, validate_only: bool = False
) -> Schedule:
    """Another time makes a new next instant. Raises NotFound, Aborted, AlreadyExists NAME_TAKEN, InvalidArgument."""
    body = partial(_update, house, schedule_id, change)
    after = partial(_tell, house)
    return await write(house.database, body, name="schedules.update", after=after, validate_only=validate_only)


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
        new = _save(house, connection, old, replace(old, paused=True, pause_note=note, next_fire_at=None))
        if not old.paused:
            keep_pause(connection, new, new.updated_at)
        return new

    def after(_: Schedule) -> None:
        house.watch.notify(TOPIC, notices.TOPIC)

    return await house.database.write(body, name="schedules.pause", after=after)


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
        new = replace(old, paused=False, pause_note="", failures=0, next_fire_at=following)
        return _save(house, connection, old, new)

    return await house.database.write(body, name="schedules.resume", after=partial(_tell, house))


def _tell(house: House, _: Schedule) -> None:
    house.watch.notify(TOPIC)


def draft_violations(
    house: House, draft: ScheduleDraft, path: str, task: Task, spec: RunSpec
) -> tuple[FieldViolation, ...]:
    """Everything that is wrong with a new schedule of a task that comes with it."""
    given = _given(draft, path)
    return (*check_name(draft.name, f"{path}.name"), *_rules(house, draft, path), *given_violations(given, task, spec))


def _rules(house: House, draft: ScheduleDraft, path: str) -> tuple[FieldViolation, ...]:
    return (*validate_when(draft, now=house.clock.now(), prefix=path), *validate_policies(draft, path))


def _given_violations(
    house: House, connection: Connection, schedule: Schedule | ScheduleDraft, task: Task
) -> tuple[FieldViolation, ...]:
    return given_violations(_given(schedule), task, house.spec(connection, task.spec_sha256))


def _given(schedule: Schedule | ScheduleDraft, path: str = "schedule") -> Given:
    return Given(values=schedule.variables, path=f"{path}.variables", fresh=True)


def insert_in(
    house: House, connection: Connection, caller: Caller, project_id: ProjectId, draft: ScheduleDraft
) -> Schedule:
    """A new schedule inside a transaction of the caller's, who wakes TOPIC after the commit; it is checked already.

    Raises NotFound TASK_NOT_FOUND, AlreadyExists NAME_TAKEN, InvalidArgument for values that no run can have.
    """
    task = reads.the_task(connection, project_id, draft.task)
    _refuse_taken(connection, project_id, draft.name)
    now = house.clock.now()
    said = {each.name: getattr(draft, each.name) for each in fields(ScheduleDraft) if each.name != "task"}
    schedule = Schedule(
        **said | {"variables": dict(draft.variables)},
        id=ScheduleId(house.clock.new_id()),
        project_id=project_id,
        task_id=task.id,
        task_name=task.name,
        created_by=caller.principal.id,
        created_at=now,
        updated_at=now,
        etag=FIRST_ETAG,
    )
    _check_values(house, connection, schedule, task)
    if not schedule.paused:
        schedule = replace(schedule, next_fire_at=next_fire_at(schedule, after=now))
    writes.insert_schedule(connection, schedule)
    return schedule


def _update(house: House, schedule_id: ScheduleId, change: ScheduleChange, connection: Connection) -> Schedule:
    old = _load(connection, schedule_id, change.etag)
    now = house.clock.now()
    new = _changed(old, change)
    moved = any(getattr(new, name) != getattr(old, name) for name in _TIMES)
    task = reads.task(connection, old.task_id)
    given = change.variables is not None and task is not None
    refuse(
        *check_name(new.name, "schedule.name"),
        *(validate_when(new, now=now) if moved else ()),
        *validate_policies(new),
        *(_given_violations(house, connection, new, task) if given and task is not None else ()),
    )
    if given and task is not None:
        _check_values(house, connection, new, task)
    if new.name != old.name:
        _refuse_taken(connection, old.project_id, new.name)
    if moved and not new.paused:
        new = replace(new, next_fire_at=next_fire_at(new, after=now))
    elif new.next_fire_at is not None:
        # The instant that is meant stays; only its delay is another.
        new = replace(new, next_fire_at=new.next_fire_at - old.offset + new.offset)
    return _save(house, connection, old, new)


def _changed(old: Schedule, change: ScheduleChange) -> Schedule:
    plain = ("name", "time_zone", "overlap", "catch_up", "max_catch_up", "jitter_s", "pause_after_failures")
    said: dict[str, Any] = {name: getattr(change, name) for name in plain if getattr(change, name) is not None}
    if change.when is not None:
        said |= {"cron": change.when.cron, "every_s": change.when.every_s, "once": change.when.once}
    if change.window is not None:
        said |= {name: getattr(change.window, name) for name in change.window_fields}
    if change.variables is not None:
        said["variables"] = dict(change.variables)
    return replace(old, **said)


def _check_values(house: House, connection: Connection, schedule: Schedule, task: Task) -> None:
    """A run gets the values or is skipped for ever: what no run can have is refused at once."""
    spec = house.spec(connection, task.spec_sha256)
    resolve(connection, schedule.project_id, spec, _given(schedule), task)


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
