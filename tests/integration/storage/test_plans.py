"""Queries that run all the time are answered by an index, however many rows there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from control_plane.domain.ids import AttemptKey, Holder, PrincipalId, ProjectId, RunId, RunnerId, ScheduleId, TaskId
from control_plane.domain.run import RunState
from control_plane.storage import reads, schema, sqlite
from control_plane.storage.reads import EventFilter, PageRequest, RunFilter
from tests.contract.storage_things import T0

PROJECT = ProjectId("p")
RUN = RunId("r")
KEY = AttemptKey(run_id=RUN, lease_epoch=1)
HOLDER = Holder(runner_id=RunnerId("x"), state_directory_id="d")
PAGE = PageRequest()

QUERIES: dict[str, Callable[[Connection], object]] = {
    "run": lambda c: reads.run(c, RUN),
    "attempt": lambda c: reads.attempt(c, KEY),
    "attempts": lambda c: reads.attempts(c, RUN),
    "spec": lambda c: reads.spec_bytes(c, "s"),
    "queued runs": lambda c: reads.queued_runs(c, T0, 100),
    "next not_before": lambda c: reads.next_not_before(c, T0),
    "due runs": lambda c: reads.due_runs(c, T0, 100),
    "live attempts": lambda c: reads.live_attempts(c, HOLDER.runner_id),
    "runner": lambda c: reads.runner(c, HOLDER.runner_id),
    "list": lambda c: reads.list_runs(c, PROJECT, RunFilter(), PAGE),
    "list by state": lambda c: reads.list_runs(c, PROJECT, RunFilter(states=(RunState.FAILED,)), PAGE),
    "list by task": lambda c: reads.list_runs(c, PROJECT, RunFilter(task_id=TaskId("t")), PAGE),
    "list since": lambda c: reads.list_runs(c, PROJECT, RunFilter(created_after=T0), PAGE),
    "events of a run": lambda c: reads.list_events(c, RUN, PAGE),
    "watch a run": lambda c: reads.events_after(c, EventFilter(project_id=PROJECT, run_id=RUN), 5, 100),
    "watch a task": lambda c: reads.events_after(c, EventFilter(project_id=PROJECT, task_id=TaskId("t")), 5, 100),
    "watch a project": lambda c: reads.events_after(c, EventFilter(project_id=PROJECT), 5, 100),
    "newest event": reads.newest_event_number,
    "short id": lambda c: reads.find_run(c, "12345678", project_id=PROJECT, principal_id=PrincipalId("u")),
    "last run": lambda c: reads.find_run(c, "@last", project_id=None, principal_id=PrincipalId("u")),
    "active of task": lambda c: reads.active_runs_of_task(c, TaskId("t")),
    "active of schedule": lambda c: reads.active_runs_of_schedule(c, ScheduleId("s")),
    "waiting of deleted tasks": lambda c: reads.waiting_runs_of_deleted_tasks(c, 100),
    "status": reads.status_counts,
    "due schedules": lambda c: reads.due_schedules(c, T0, 100),
    "log owner": lambda c: reads.log_owner(c, KEY),
    "log view": lambda c: reads.log_view(c, RUN),
    "unsealed logs": lambda c: reads.unsealed_logs(c, HOLDER),
    "expired logs": lambda c: reads.expired_logs(c, T0, 100),
    "token": lambda c: reads.token_by_digest(c, "d"),
    "request id": lambda c: reads.stored_request(
        c, principal_id=PrincipalId("u"), method="m", request_id="r", not_before=T0
    ),
}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The query plan of every statement that each query runs."""
    engines = sqlite.open_engines(tmp_path_factory.mktemp("plans") / "banksman.db")
    schema.migrate(engines.writer)
    found: dict[str, list[str]] = {}
    with engines.writer.begin() as connection:
        for name, query in QUERIES.items():
            found[name] = _plan(connection, query)
    engines.dispose()
    return found


def _plan(connection: Connection, query: Callable[[Connection], object]) -> list[str]:
    lines: list[str] = []

    def explain(conn: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        raw = connection.connection.driver_connection
        assert raw is not None
        lines.extend(str(row[3]) for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(connection, "before_cursor_execute", explain)
    query(connection)
    event.remove(connection, "before_cursor_execute", explain)
    return lines


# Indexes that hold only the few rows that are waiting or alive, and a table with a row per host, may be read whole.
FEW = ("runs USING INDEX ix_runs_queue", "ix_runs_active", "ix_attempts_live", "SCAN runners")


@pytest.mark.parametrize("name", QUERIES)
def test_no_table_is_scanned_and_nothing_is_sorted(plans: dict[str, list[str]], name: str) -> None:
    bad = [
        line
        for line in plans[name]
        if (line.startswith("SCAN ") and not any(few in line for few in FEW)) or "TEMP B-TREE FOR ORDER BY" in line
    ]
    assert plans[name]
    assert bad == [], plans[name]


def test_no_statistics_are_needed(tmp_path: Path) -> None:
    """Without statistics the planner already takes the right index: a new database is fast from the first row."""
    engines = sqlite.open_engines(tmp_path / "banksman.db")
    schema.migrate(engines.writer)
    with engines.writer.begin() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_schema WHERE name LIKE 'sqlite_stat%'").all()
        assert tables == []
        assert any("ix_runs_queue" in line for line in _plan(connection, QUERIES["queued runs"]))
        assert any("ix_runs_project_state" in line for line in _plan(connection, QUERIES["list by state"]))
        for name in ("active of task", "waiting of deleted tasks", "status"):
            assert any("ix_runs_active" in line for line in _plan(connection, QUERIES[name]))
        assert any("schedule_id=? AND state=?" in line for line in _plan(connection, QUERIES["active of schedule"]))
        assert any("ix_attempts_live" in line for line in _plan(connection, QUERIES["live attempts"]))
    engines.dispose()
