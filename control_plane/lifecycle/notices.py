"""Who is to be told of a move learns it from rows of the same transaction: nothing is told that was not stored."""

from __future__ import annotations

from datetime import datetime

from control_plane.domain.case import Case
from control_plane.domain.notification import of_pause, of_run
from control_plane.domain.run import Run
from control_plane.domain.schedule import Schedule
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

# Wakes who sends them.
TOPIC = "notifications"
# Wakes who makes reports.
REPORTS = "reports"


def keep_notices(conn: Connection, before: Run | None, case: Case) -> None:
    """`before` None: the run was born. Without settings it asks nothing of the database."""
    if case.notifications:
        writes.insert_deliveries(conn, of_run(before, case))


def keep_pause(conn: Connection, schedule: Schedule, at: datetime) -> None:
    """In the transaction that pauses a schedule."""
    task = reads.task(conn, schedule.task_id)
    if task is not None and task.notifications:
        writes.insert_deliveries(conn, of_pause(schedule, task, at))
