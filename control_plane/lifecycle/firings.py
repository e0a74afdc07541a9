"""How a schedule makes runs: each instant at most once, in the transaction that creates its run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from control_plane.domain.case import Case
from control_plane.domain.errors import BanksmanError, ErrorCode, NotFound
from control_plane.domain.ids import PrincipalId, RunId, ScheduleId
from control_plane.domain.principal import Caller, PrincipalKind
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run, TriggerType
from control_plane.domain.schedule import FiringOrigin, OverlapPolicy, Schedule, plan_firing
from control_plane.domain.task import Task
from control_plane.lifecycle.births import Birth, born, require_launcher
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import once, refuse, request_id_violations, require_saved
from control_plane.lifecycle.variables import Given, Values, resolve
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

TOPIC = "schedules"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fired:
    """The run of a firing; no case: an earlier request made it. No run: nothing was to fire."""

    run: Run | None
    case: Case | None = None

    @property
    def id(self) -> str:
        return "" if self.run is None else self.run.id


async def fire(house: House, schedule_id: ScheduleId, scheduled_time: datetime, origin: FiringOrigin) -> Run | None:
    """Take the instant that is due, by the schedule's catch-up policy; None when there was nothing to do.

    The run is born QUEUED, or SKIPPED: an earlier run of the schedule is active, or its task is not.
    """
    body = partial(_fire, house, schedule_id, scheduled_time, origin)
    fired: _Fired = await house.database.write(body, name="schedules.fire", after=partial(_tell, house))
    return fired.run


async def trigger(house: House, caller: Caller, schedule_id: ScheduleId) -> Run:
    """Fire now by hand, paused or not; the overlap policy counts as ever.

    Raises NotFound SCHEDULE_NOT_FOUND, AlreadyExists REQUEST_ID_REUSED.
    """
    refuse(*request_id_violations(caller))
    body = partial(_trigger_once, house, caller, schedule_id)
    fired: _Fired = await house.database.write(body, name="schedules.trigger", after=partial(_tell, house))
    if fired.run is None:
        raise ValueError("a trigger always makes a run")
    return fired.run


def _tell(house: House, fired: _Fired) -> None:
    if fired.case is not None:
        house.told((fired.case,))
    house.watch.notify(TOPIC)


def _fire(
    house: House, schedule_id: ScheduleId, scheduled_time: datetime, origin: FiringOrigin, connection: Connection
) -> _Fired:
    old = reads.schedule(connection, schedule_id)
    if old is None or old.paused:
        return _Fired(run=None)
    if origin is FiringOrigin.SCHEDULE:
        return _Fired(run=None) if old.next_fire_at != scheduled_time else _fire_due(house, connection, old)
    return _made(house, connection, old, origin, scheduled_time, TriggerType.BACKFILL, old.created_by)


def _fire_due(house: House, connection: Connection, old: Schedule) -> _Fired:
    """What is due by the stored next instant: fired, or passed over, and the next one stored."""
    now = house.clock.now()
    plan = plan_firing(old, now)
    if plan.missed and plan.missed_from is not None:
        writes.insert_firing(
            connection,
            old,
            origin=FiringOrigin.SCHEDULE,
            scheduled_time=plan.missed_from,
            created_by=old.created_by,
            at=now,
            missed=plan.missed,
        )
    fired = _Fired(run=None)
    if plan.fire_at is not None:
        scheduled = (FiringOrigin.SCHEDULE, plan.fire_at, TriggerType.SCHEDULED, old.created_by)
        fired = _made(house, connection, old, *scheduled)
    _save(connection, old, fired.run, replace(old, next_fire_at=plan.next_fire_at), now)
    return fired


def _trigger_once(house: House, caller: Caller, schedule_id: ScheduleId, connection: Connection) -> _Fired:
    def known(run_id: str) -> _Fired | None:
        run = reads.run(connection, RunId(run_id))
        return None if run is None else _Fired(run=run)

    def fresh() -> _Fired:
        old = reads.schedule(connection, schedule_id)
        if old is None:
            raise NotFound(ErrorCode.SCHEDULE_NOT_FOUND)
        kind = TriggerType.API if caller.principal.kind is PrincipalKind.SERVICE else TriggerType.MANUAL
        now = house.clock.now()
        by_hand = (FiringOrigin.MANUAL, now, kind, caller.principal.id)
        fired = _made(house, connection, old, *by_hand, actor=caller.principal.name)
        _save(connection, old, fired.run, old, now)
        return fired

    kept_s = house.timing.request_id_kept_s
    now = house.clock.now()
    return once(connection, caller, "TriggerSchedule", schedule_id, now=now, kept_s=kept_s, load=known, make=fresh)


def _made(
    house: House,
    connection: Connection,
    schedule: Schedule,
    origin: FiringOrigin,
    scheduled_time: datetime,
    kind: TriggerType,
    created_by: PrincipalId,
    *,
    actor: str = "",
) -> _Fired:
    """The run of one instant, unless the instant was taken before (two triggers in one microsecond share a run)."""
    task = reads.task(connection, schedule.task_id)
    if task is None:
        return _Fired(run=None)
    now = house.clock.now()
    taken = not writes.insert_firing(
        connection, schedule, origin=origin, scheduled_time=scheduled_time, created_by=created_by, at=now
    )
    if taken:
        made = reads.run_of_firing(connection, schedule.id, origin, scheduled_time)
        return _Fired(run=None if made is None else reads.run(connection, made))
    frozen = house.specs.frozen(connection, task.spec_sha256)
    values, note = Values(), ""
    skip = _skip(connection, schedule, task)
    if skip is None:
        try:
            require_launcher(frozen.spec)
            values = resolve(connection, schedule.project_id, frozen.spec, Given(), task)
        except BanksmanError as refused:
            # Nobody hears an answer: the firing says itself why nothing ran.
            skip, note = Reason.TASK_INACTIVE, f"The task cannot run by itself: {refused.message}"
    birth = Birth(
        project_id=schedule.project_id,
        frozen=frozen,
        task=task,
        trigger_type=kind,
        created_by=created_by,
        actor=actor,
        schedule_id=schedule.id,
        scheduled_time=scheduled_time,
        skip=skip,
        skip_note=note,
        values=values,
    )
    case = born(house, connection, birth)
    writes.link_firing(connection, schedule.id, origin, scheduled_time, case.run.id)
    return _Fired(run=case.run, case=case)


def _skip(connection: Connection, schedule: Schedule, task: Task) -> Reason | None:
    if not task.active or task.deleted_at is not None:
        return Reason.TASK_INACTIVE
    if schedule.overlap is OverlapPolicy.SKIP and reads.active_runs_of_schedule(connection, schedule.id):
        return Reason.OVERLAP
    return None


def _save(connection: Connection, old: Schedule, run: Run | None, new: Schedule, now: datetime) -> None:
    """Firing does not count as a change by someone: the etag stays."""
    if run is not None:
        new = replace(new, last_fired_at=now, last_run_id=run.id)
    require_saved(writes.save_schedule(connection, old, new))
