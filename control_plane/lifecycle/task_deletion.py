"""How a task goes, comes back, and goes for good."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from control_plane.domain.case import Case
from control_plane.domain.errors import AlreadyExists, ErrorCode, FailedPrecondition, NotFound
from control_plane.domain.ids import TaskId
from control_plane.domain.principal import Caller
from control_plane.domain.reason import Reason
from control_plane.domain.run_rules import not_over
from control_plane.domain.schedule import Schedule, next_fire_at
from control_plane.domain.stops import CancelOrder
from control_plane.domain.task import Task
from control_plane.lifecycle import runs
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import check_etag, next_etag, require_saved
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

# A verb is short: a task with many queued runs is deleted in several.
RUNS_A_VERB = 50
# Tells the schedules that a deletion stopped from those that somebody had paused.
STOPPED = "Its task was deleted."


async def delete(house: House, caller: Caller, task_id: TaskId, etag: str = "") -> None:
    """Its schedules stop, its queued and offered runs are cancelled, its history stays. Raises NotFound, Aborted."""
    actor = caller.principal.name

    def body(connection: Connection) -> tuple[Case, ...]:
        old = load_task(connection, task_id, etag)
        now = house.clock.now()
        _save(connection, old, replace(old, deleted_at=now), now)
        for schedule in reads.schedules_of_task(connection, task_id):
            if not schedule.paused:
                stopped = replace(schedule, paused=True, pause_note=STOPPED, next_fire_at=None)
                _save_schedule(connection, schedule, stopped, now)
        return _cancel_some(house, actor, connection)

    def after(cases: tuple[Case, ...]) -> None:
        house.told(cases)
        house.watch.notify("schedules")

    cancelled = await house.database.write(body, name="tasks.delete", after=after)
    if len(cancelled) == RUNS_A_VERB:
        await cancel_waiting(house, actor)


async def undelete(house: House, task_id: TaskId, etag: str = "") -> Task:
    """As it was; its schedules go on from now.

    Raises NotFound, Aborted ETAG_MISMATCH, AlreadyExists NAME_TAKEN, FailedPrecondition TASK_NOT_DELETED.
    """

    def body(connection: Connection) -> Task:
        old = _load_deleted(connection, task_id, etag)
        if reads.find_task(connection, old.project_id, old.name) is not None:
            hint = f"banksman task update {old.name} --name OTHER"
            text = f"There is another task {old.name!r} in this project now."
            raise AlreadyExists(ErrorCode.NAME_TAKEN, text, hint=hint)
        now = house.clock.now()
        new = _save(connection, old, replace(old, deleted_at=None), now)
        for schedule in reads.schedules_of_task(connection, task_id):
            if schedule.paused and schedule.pause_note == STOPPED:
                _save_schedule(connection, schedule, _going_on(schedule, now), now)
        return new

    return await house.database.write(
        body, name="tasks.undelete", after=lambda _: house.watch.notify("schedules", "queue")
    )


async def purge(house: House, task_id: TaskId, etag: str = "") -> None:
    """A deleted task is gone for good, with its schedules; its runs stay and keep its name.

    Raises NotFound, Aborted ETAG_MISMATCH, FailedPrecondition TASK_NOT_DELETED, TASK_HAS_ACTIVE_RUNS.
    """

    def body(connection: Connection) -> None:
        task = _load_deleted(connection, task_id, etag)
        active = reads.active_runs_of_task(connection, task_id)
        if active:
            raise FailedPrecondition(ErrorCode.TASK_HAS_ACTIVE_RUNS, not_over(active), metadata={"run": active[0]})
        writes.delete_schedules_of_task(connection, task.id)
        writes.delete_task(connection, task.id)

    await house.database.write(body, name="tasks.purge")


async def cancel_waiting(house: House, actor: str = "") -> int:
    """Cancel the queued and offered runs of deleted tasks, some at a time; how many there were.

    Housekeeping calls it too, for a server that ended in the middle of a delete.
    """
    body = partial(_cancel_some, house, actor)
    count = 0
    while True:
        cases = await house.database.write(body, name="tasks.cancel_waiting", after=house.told)
        count += len(cases)
        if len(cases) < RUNS_A_VERB:
            return count


def load_task(connection: Connection, task_id: TaskId, etag: str) -> Task:
    """One that is not deleted. Raises NotFound, Aborted ETAG_MISMATCH."""
    task = reads.task(connection, task_id)
    if task is None or task.deleted_at is not None:
        raise NotFound(ErrorCode.TASK_NOT_FOUND)
    check_etag(task.etag, etag)
    return task


def _load_deleted(connection: Connection, task_id: TaskId, etag: str) -> Task:
    task = reads.task(connection, task_id)
    if task is None:
        raise NotFound(ErrorCode.TASK_NOT_FOUND)
    if task.deleted_at is None:
        raise FailedPrecondition(ErrorCode.TASK_NOT_DELETED, f"Task {task.name!r} is not deleted.")
    check_etag(task.etag, etag)
    return task


def _save(connection: Connection, old: Task, new: Task, now: datetime) -> Task:
    new = replace(new, updated_at=now, etag=next_etag(old.etag))
    require_saved(writes.save_task(connection, old, new))
    return new


def _save_schedule(connection: Connection, old: Schedule, new: Schedule, now: datetime) -> None:
    require_saved(writes.save_schedule(connection, old, replace(new, updated_at=now, etag=next_etag(old.etag))))


def _going_on(schedule: Schedule, now: datetime) -> Schedule:
    """From its next instant; one that has none left stays where it is."""
    following = next_fire_at(schedule, after=now)
    if following is None:
        return replace(schedule, pause_note="It has no further firing.")
    return replace(schedule, paused=False, pause_note="", next_fire_at=following)


def _cancel_some(house: House, actor: str, connection: Connection) -> tuple[Case, ...]:
    order = CancelOrder(reason=Reason.TASK_DELETED, actor=actor)
    waiting = reads.waiting_runs_of_deleted_tasks(connection, RUNS_A_VERB)
    return tuple(runs.cancel_in(house, connection, run_id, order) for run_id in waiting)
