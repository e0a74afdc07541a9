"""How a schedule's runs end: one whose runs fail again and again pauses itself."""

from __future__ import annotations

from dataclasses import replace

from control_plane.domain.run import Run, RunState, TriggerType
from control_plane.lifecycle.notices import keep_pause
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection
from control_plane.telemetry import logger

log = logger("schedules")

FAILED = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.LOST, RunState.EXPIRED})


def count_outcome(connection: Connection, run: Run) -> None:
    """A run of a schedule is over, in this transaction. Cancelled and skipped ones say nothing about it.

    Only what the schedule fired by itself counts: a backfill or a try by hand neither pauses it nor excuses it.
    """
    if run.schedule_id is None or run.completed_at is None or run.trigger_type is not TriggerType.SCHEDULED:
        return
    if run.state is RunState.SUCCEEDED:
        writes.count_outcome(connection, run.schedule_id, succeeded=True)
    elif run.state in FAILED:
        writes.count_outcome(connection, run.schedule_id, succeeded=False)
        schedule = reads.schedule(connection, run.schedule_id)
        if schedule is None:
            return
        count = schedule.failures
        times = "Its last run" if count == 1 else f"Its last {count} runs"
        note = f"{times} did not succeed; the newest is {run.id} ({run.reason or run.state})."
        if writes.pause_failing(connection, run.schedule_id, note, run.completed_at):
            keep_pause(connection, replace(schedule, paused=True, pause_note=note), run.completed_at)
            log.warning("a schedule paused itself", schedule=schedule.name, failures=count, run=run.id)
