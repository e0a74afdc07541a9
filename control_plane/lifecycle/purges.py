"""How runs go for good: all that were asked for are hidden in one transaction, then emptied some at a time.

A tombstone stays: a runner that still lists such a run is told to stop it, and then to forget it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from control_plane.domain.errors import ErrorCode, FailedPrecondition, NotFound
from control_plane.domain.history import RunEventRecord, RunEventType
from control_plane.domain.ids import RunId, TaskId
from control_plane.domain.principal import Caller
from control_plane.domain.run import RUN_TERMINAL
from control_plane.domain.run_rules import not_over
from control_plane.domain.spec import RunSpec
from control_plane.lifecycle.house import House, require_project
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection
from control_plane.storage.reads import StoredLog

TOPIC = "purges"
ROWS_A_VERB = 500
RUNS_AT_ONCE = 50


async def delete_run(house: House, caller: Caller, run_id: RunId) -> None:
    """Nobody sees the run any more. Raises NotFound RUN_NOT_FOUND, FailedPrecondition RUN_ACTIVE."""

    def body(connection: Connection) -> int:
        run = reads.run(connection, run_id)
        if run is None:
            raise NotFound(ErrorCode.RUN_NOT_FOUND)
        require_project(caller, run.project_id)
        if run.state not in RUN_TERMINAL:
            hint = f"banksman run cancel {run.id}"
            raise FailedPrecondition(ErrorCode.RUN_ACTIVE, f"Run {run.id} is {run.state}: cancel it first.", hint=hint)
        return writes.hide_run(connection, run.id, actor=caller.principal.name, at=house.clock.now())

    await house.database.write(body, name="runs.delete", after=partial(_hidden, house))


async def delete_task_runs(house: House, caller: Caller, task_id: TaskId) -> int:
    """All runs of the task, or none: how many there were.

    Raises NotFound TASK_NOT_FOUND, FailedPrecondition TASK_HAS_ACTIVE_RUNS.
    """

    def body(connection: Connection) -> int:
        task = reads.task(connection, task_id)
        if task is None:
            raise NotFound(ErrorCode.TASK_NOT_FOUND)
        require_project(caller, task.project_id)
        active = reads.active_runs_of_task(connection, task_id)
        if active:
            text = f"{not_over(active)} Nothing was deleted."
            metadata = {"run": active[0], "active": str(len(active))}
            raise FailedPrecondition(ErrorCode.TASK_HAS_ACTIVE_RUNS, text, metadata=metadata)
        return writes.hide_runs_of_task(connection, task_id, actor=caller.principal.name, at=house.clock.now())

    return await house.database.write(body, name="runs.delete_of_task", after=partial(_hidden, house))


def _hidden(house: House, count: int) -> None:
    if count:
        house.watch.notify(TOPIC)


async def waiting(house: House, besides: frozenset[RunId] = frozenset()) -> tuple[RunId, ...]:
    """Hidden runs of which something is left, some of them, oldest first."""
    return await house.database.read(partial(reads.hidden_runs, besides=besides, limit=RUNS_AT_ONCE))


async def logs(house: House, run_ids: Sequence[RunId]) -> tuple[StoredLog, ...]:
    """The logs of these runs whose bytes are still there."""
    return await house.database.read(partial(reads.logs_of_runs, run_ids=run_ids))


async def empty(house: House, run_ids: Sequence[RunId]) -> None:
    """Remove the rows of these hidden runs in short verbs; watchers learn that they are gone."""
    rows = partial(writes.purge_rows, run_ids=run_ids, limit=ROWS_A_VERB)
    while await house.database.write(rows, name="purge.rows") >= ROWS_A_VERB:
        pass

    def told(_: None) -> None:
        house.watch.notify("runs", *(f"run:{run_id}" for run_id in run_ids))

    await house.database.write(partial(_bury, house, run_ids), name="purge.bury", after=told)


def _bury(house: House, run_ids: Sequence[RunId], connection: Connection) -> None:
    """Its last event takes project and task from the row, and says who deleted it."""
    now = house.clock.now()
    nothing = house.specs.freeze(RunSpec(steps=()))
    writes.insert_spec(connection, nothing.sha256, nothing.data, now)
    events = [
        RunEventRecord(run_id=run_id, type=RunEventType.DELETED, at=now, lease_epoch=epoch, actor=actor)
        for run_id, epoch, actor in reads.hidden_by(connection, run_ids)
    ]
    writes.append_events(connection, events)
    writes.bury_runs(connection, run_ids, spec_sha256=nothing.sha256, at=now)
