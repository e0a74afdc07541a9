"""How a schedule makes runs: each instant at most once, in the transaction that creates its run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from control_plane.domain.case import Case
from control_plane.domain.errors import BanksmanError, ErrorCode, NotFound
from control_plane.domain.firings import plan_firing
from control_plane.domain.ids import PrincipalId, RunId, ScheduleId
from control_plane.domain.principal import Caller, PrincipalKind
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run, RunState, TriggerType
from control_plane.domain.schedule import FiringOrigin, OverlapPolicy, Schedule
from control_plane.domain.stops import CancelOrder
from control_plane.domain.task import Task
from control_plane.lifecycle.births import Birth, born, require_launcher
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import once, refuse, request_id_violations, require_saved
from control_plane.lifecycle.runs import cancel_in
from control_plane.lifecycle.variables import Given, Values, resolve
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

TOPIC = "schedules"


# So many active runs at most are cancelled by the verb that fires.
CANCELS_A_VERB = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """The run of a firing, and every case that it moved; none: an earlier request made it. No run: nothing fired."""

    run: Run | None
    cases: tuple[Case, ...] = ()

    @property
    def id(self) -> str:
        return "" if self.run is None else self.run.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """What is to fire: which instant, why, by whom."""

    origin: FiringOrigin
    scheduled_time: datetime
    trigger_type: TriggerType
    created_by: PrincipalId
    overlap: OverlapPolicy
    actor: str = ""


async def fire(house: House, schedule_id: ScheduleId, scheduled_time: datetime, origin: FiringOrigin) -> Run | None:
    """Take the instant that is due, by the schedule's catch-up policy; None when there was nothing to do.

    The run is born QUEUED, or SKIPPED: an earlier run of the schedule is active, or its task is not.
    """
    body = partial(_fire, house, schedule_id, scheduled_time, origin)
    return (await _write(house, body, "schedules.fire")).run


async def trigger(house: House, caller: Caller, schedule_id: ScheduleId) -> Run:
    """Fire now by hand, paused or not; the overlap policy counts as ever.

    Raises NotFound SCHEDULE_NOT_FOUND, AlreadyExists REQUEST_ID_REUSED.
    """
    refuse(*request_id_violations(caller))
    fired = await _write(house, partial(_trigger_once, house, caller, schedule_id), "schedules.trigger")
    if fired.run is None:
        raise ValueError("a trigger always makes a run")
    return fired.run


def _tell(house: House, fired: Fired) -> None:
    house.told(fired.cases)
    house.watch.notify(TOPIC)


class _Crowded(Exception):
    """More runs are active than the verb that fires may cancel; it has changed nothing."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule.id)
        self.schedule = schedule


async def _write(house: House, body: Callable[[Connection], Fired], name: str) -> Fired:
    """Of very many active runs that a firing cancels, some are cancelled before it: a verb is short."""
    while True:
        try:
            return await house.database.write(body, name=name, after=partial(_tell, house))
        except _Crowded as crowded:
            room = partial(_supersede, house, schedule=crowded.schedule, leave=CANCELS_A_VERB)
            while await house.database.write(room, name="schedules.make_room", after=house.told):
                pass


def _running(connection: Connection, schedule: Schedule) -> list[RunId]:
    """Its active runs that nobody has cancelled yet, oldest first."""
    active = [reads.run(connection, run_id) for run_id in reads.active_runs_of_schedule(connection, schedule.id)]
    return [run.id for run in active if run is not None and run.state is not RunState.CANCELLING]


def _supersede(house: House, connection: Connection, schedule: Schedule, *, leave: int = 0) -> tuple[Case, ...]:
    """Cancel the oldest active runs, as long as more than `leave` are active and not cancelled yet."""
    running = _running(connection, schedule)
    oldest = running[: max(0, min(len(running) - leave, CANCELS_A_VERB))]
    order = CancelOrder(reason=Reason.SUPERSEDED, note=f"Schedule {schedule.name} fired again.")
    return tuple(cancel_in(house, connection, run_id, order) for run_id in oldest)


def _fire(
    house: House, schedule_id: ScheduleId, scheduled_time: datetime, origin: FiringOrigin, connection: Connection
) -> Fired:
    old = reads.schedule(connection, schedule_id)
    if old is None or old.paused:
        return Fired(run=None)
    if origin is FiringOrigin.SCHEDULE:
        return Fired(run=None) if old.next_fire_at != scheduled_time else _fire_due(house, connection, old)
    instant = Instant(
        origin=origin,
        scheduled_time=scheduled_time,
        trigger_type=TriggerType.BACKFILL,
        created_by=old.created_by,
        overlap=old.overlap,
    )
    return _made(house, connection, old, instant)


def _fire_due(house: House, connection: Connection, old: Schedule) -> Fired:
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
    fired = Fired(run=None)
    if plan.fire_at is not None:
        instant = Instant(
            origin=FiringOrigin.SCHEDULE,
            scheduled_time=plan.fire_at,
            trigger_type=TriggerType.SCHEDULED,
            created_by=old.created_by,
            overlap=old.overlap,
        )
        fired = _made(house, connection, old, instant)
    _save(connection, old, fired.run, replace(old, next_fire_at=plan.next_fire_at), now)
    return fired


def _trigger_once(house: House, caller: Caller, schedule_id: ScheduleId, connection: Connection) -> Fired:
    def known(run_id: str) -> Fired | None:
        run = reads.run(connection, RunId(run_id))
        return None if run is None else Fired(run=run)

    def fresh() -> Fired:
        old = reads.schedule(connection, schedule_id)
        if old is None:
            raise NotFound(ErrorCode.SCHEDULE_NOT_FOUND)
        kind = TriggerType.API if caller.principal.kind is PrincipalKind.SERVICE else TriggerType.MANUAL
        now = house.clock.now()
        by_hand = Instant(
            origin=FiringOrigin.MANUAL,
            scheduled_time=now,
            trigger_type=kind,
            created_by=caller.principal.id,
            overlap=old.overlap,
            actor=caller.principal.name,
        )
        fired = _made(house, connection, old, by_hand)
        _save(connection, old, fired.run, old, now)
        return fired

    kept_s = house.timing.request_id_kept_s
    now = house.clock.now()
    return once(connection, caller, "TriggerSchedule", schedule_id, now=now, kept_s=kept_s, load=known, make=fresh)


def _made(house: House, connection: Connection, schedule: Schedule, instant: Instant) -> Fired:
    """The run of one instant, or the one that the instant made before. Raises _Crowded."""
    if instant.overlap is OverlapPolicy.CANCEL_RUNNING and len(_running(connection, schedule)) > CANCELS_A_VERB:
        raise _Crowded(schedule)
    task = reads.task(connection, schedule.task_id)
    if task is None:
        return Fired(run=None)
    taken = not writes.insert_firing(
        connection,
        schedule,
        origin=instant.origin,
        scheduled_time=instant.scheduled_time,
        created_by=instant.created_by,
        at=house.clock.now(),
    )
    if taken:
        made = reads.run_of_firing(connection, schedule.id, instant.scheduled_time)
        return Fired(run=None if made is None else reads.run(connection, made))
    return take(house, connection, schedule, task, instant)


def take(house: House, connection: Connection, schedule: Schedule, task: Task, instant: Instant) -> Fired:
    """The run of an instant whose key is stored already: QUEUED, or SKIPPED with the reason."""
    frozen = house.specs.frozen(connection, task.spec_sha256)
    values, note = Values(), ""
    skip = None if task.active and task.deleted_at is None else Reason.TASK_INACTIVE
    if skip is None:
        try:
            require_launcher(frozen.spec)
            values = resolve(connection, schedule.project_id, frozen.spec, given(schedule), task)
        except BanksmanError as refused:
            # Nobody hears an answer: the firing says itself why nothing ran.
            skip, note = Reason.TASK_INACTIVE, f"The task cannot run by itself: {refused.message}"
    active: tuple[RunId, ...] = ()
    superseded: tuple[Case, ...] = ()
    if skip is None:
        active = reads.active_runs_of_schedule(connection, schedule.id)
        skip = _overlapping(instant.overlap, len(active))
        if instant.overlap is OverlapPolicy.CANCEL_RUNNING:
            superseded = _supersede(house, connection, schedule)
    birth = Birth(
        project_id=schedule.project_id,
        frozen=frozen,
        task=task,
        trigger_type=instant.trigger_type,
        created_by=instant.created_by,
        actor=instant.actor,
        schedule_id=schedule.id,
        scheduled_time=instant.scheduled_time,
        skip=skip,
        skip_note=note,
        values=values,
    )
    case = born(house, connection, birth)
    if case.run.is_active and active and instant.overlap.one_by_one:
        writes.insert_turn(connection, case.run.id)
    writes.link_firing(connection, schedule.id, instant.origin, instant.scheduled_time, case.run.id)
    return Fired(run=case.run, cases=(*superseded, case))


def given(schedule: Schedule) -> Given:
    """The values that a schedule brings."""
    return Given(values=schedule.variables, path="schedule.variables")


def _overlapping(policy: OverlapPolicy, active: int) -> Reason | None:
    """Why an instant does not fire while so many runs of its schedule are active; None: it does."""
    most = {OverlapPolicy.SKIP: 0, OverlapPolicy.QUEUE_ONE: 1}.get(policy)
    return Reason.OVERLAP if most is not None and active > most else None


def _save(connection: Connection, old: Schedule, run: Run | None, new: Schedule, now: datetime) -> None:
    """Firing does not count as a change by someone: the etag stays."""
    if run is not None:
        new = replace(new, last_fired_at=now, last_run_id=run.id)
    require_saved(writes.save_schedule(connection, old, new))
