"""Queries that run all the time are answered by an index, however many rows there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert

from control_plane.domain.attempt import AttemptState
from control_plane.domain.concurrency import OnLimit, Place
from control_plane.domain.filter_fields import RUN_FIELDS
from control_plane.domain.filters import parse_filter
from control_plane.domain.ids import AttemptKey, Holder, PrincipalId, ProjectId, RunId, RunnerId, ScheduleId, TaskId
from control_plane.domain.run import RunState
from control_plane.storage import reads, schema, sqlite, writes
from control_plane.storage.prepared import Cursor, Prepared
from control_plane.storage.reads import EventFilter, PageRequest, RunFilter
from control_plane.storage.shapes import ATTEMPT, RUN, RUN_EVENT
from control_plane.storage.tables import ATTEMPTS, RUN_EVENTS, RUNS
from tests.contract.storage_things import PROJECT_ID, T0, USER_ID, Things
from tests.fakes.clock import FakeClock

NOTHING: Mapping[str, Any] = {}
PROJECT = ProjectId("p")
RUN_ID = RunId("r")
KEY = AttemptKey(run_id=RUN_ID, lease_epoch=1)
HOLDER = Holder(runner_id=RunnerId("x"), state_directory_id="d")
PAGE = PageRequest()
PLACE = Place(group="task:t", limit=1, on_limit=OnLimit.QUEUE, name="task t")

QUERIES: dict[str, Callable[[Connection], object]] = {
    "run": lambda c: reads.run(c, RUN_ID),
    "attempt": lambda c: reads.attempt(c, KEY),
    "attempts": lambda c: reads.attempts(c, RUN_ID),
    "spec": lambda c: reads.spec_bytes(c, "s"),
    "queued runs": lambda c: reads.queued_runs(c, T0, 100, "p"),
    "next not_before": lambda c: reads.next_not_before(c, T0),
    "due runs": lambda c: reads.due_runs(c, T0, 100),
    "live attempts": lambda c: reads.live_attempts(c, HOLDER.runner_id),
    "runner": lambda c: reads.runner(c, HOLDER.runner_id),
    "list": lambda c: reads.list_runs(c, PROJECT, RunFilter(), PAGE),
    "list by state": lambda c: reads.list_runs(c, PROJECT, RunFilter(states=(RunState.FAILED,)), PAGE),
    "list by task": lambda c: reads.list_runs(c, PROJECT, RunFilter(task_id=TaskId("t")), PAGE),
    "list since": lambda c: reads.list_runs(c, PROJECT, RunFilter(created_after=T0), PAGE),
    "list by tag": lambda c: reads.list_runs(c, PROJECT, RunFilter(matching=parse_filter("tag:x", RUN_FIELDS)), PAGE),
    "list for a member": lambda c: reads.list_runs(c, PROJECT, RunFilter(visible_to=PrincipalId("u")), PAGE),
    "run secrets": lambda c: reads.run_secrets(c, RUN_ID),
    "schedules of a task": lambda c: reads.schedules_of_task(c, TaskId("t")),
    "events of a run": lambda c: reads.list_events(c, RUN_ID, PAGE),
    "watch a run": lambda c: reads.events_after(c, EventFilter(project_id=PROJECT, run_id=RUN_ID), 5, 100),
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
    "log view": lambda c: reads.log_view(c, RUN_ID),
    "unsealed logs": lambda c: reads.unsealed_logs(c, HOLDER),
    "oldest logs of a project": lambda c: reads.oldest_logs_of_project(c, PROJECT, 100),
    "old runs": lambda c: reads.count_old_runs(c, PROJECT, T0, 100),
    "held places": lambda c: reads.held(c, PLACE),
    "active under a limit": lambda c: reads.active(c, PLACE, 9),
    "held places of a project": lambda c: reads.held(c, replace(PLACE, group="all:p")),
    "active in a project": lambda c: reads.active(c, replace(PLACE, group="all:p"), 9),
    "lanes": lambda c: reads.lanes(c, "", 9),
    "oldest logs": lambda c: reads.oldest_logs(c, 100),
    "task": lambda c: reads.find_task(c, PROJECT, "t"),
    "project": lambda c: reads.find_project(c, "p"),
    "token": lambda c: reads.token_by_digest(c, "d"),
    "request id": lambda c: reads.stored_request(
        c, principal_id=PrincipalId("u"), method="m", request_id="r", not_before=T0
    ),
}


OLD_RUNS = 20_000
BUSY_RUNS = 50


def _many_rows(connection: Connection) -> None:
    """A control plane that has worked for long: many runs that are over, of one task, schedule, runner and project."""
    things = Things(FakeClock(start=T0))
    things.foundations(connection)
    task, runner = things.task(), things.runner()
    writes.insert_task(connection, task)
    writes.insert_runner(connection, runner, created_by=USER_ID)
    over = {"state": RunState.SUCCEEDED, "completed_at": T0, "settled_at": T0}
    same = {"task_id": task.id, "schedule_id": ScheduleId("s")}
    runs = [things.run(**over, **same) for _ in range(OLD_RUNS)]
    busy = [things.run(state=RunState.RUNNING, **same) for _ in range(BUSY_RUNS)]
    runs += [*busy, *(things.run(**same) for _ in range(BUSY_RUNS))]
    connection.execute(insert(RUNS), [RUN.values(run, short_id=run.id[-8:]) for run in runs])
    sealed = {"state": AttemptState.SUCCEEDED, "assigned_at": T0, "log_sealed_at": T0}
    attempts = [things.attempt(run, runner, **sealed) for run in runs[:OLD_RUNS]]
    attempts += [things.attempt(run, runner, state=AttemptState.RUNNING, assigned_at=T0) for run in busy]
    rows = [ATTEMPT.values(attempt, project_id=PROJECT_ID, log_deleted_at=None) for attempt in attempts]
    connection.execute(insert(ATTEMPTS), rows)
    events = [{**RUN_EVENT.values(things.event(run)), "project_id": PROJECT_ID, "task_id": task.id} for run in runs]
    for event_row in events:
        del event_row["number"]
    connection.execute(insert(RUN_EVENTS), events)


@pytest.fixture(scope="module", params=["new", "old, with statistics"])
def plans(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The query plan of every statement that each query runs, in a new database and in one that has seen much."""
    engines = sqlite.open_engines(tmp_path_factory.mktemp("plans") / "banksman.db")
    schema.migrate(engines.writer)
    if request.param != "new":
        with engines.writer.begin() as connection:
            _many_rows(connection)
        with engines.writer.connect() as connection:
            connection.exec_driver_sql("PRAGMA analysis_limit=1000")
            connection.exec_driver_sql("ANALYZE")
            connection.rollback()
    found: dict[str, list[str]] = {}
    with engines.writer.connect() as connection:
        connection.exec_driver_sql("ANALYZE sqlite_schema")
        for name, query in QUERIES.items():
            found[name] = _plan(connection, query)
        connection.rollback()
    engines.dispose()
    return found


class Recorded:
    """Collects the query plan of each statement that runs while it is in force, whichever way it runs."""

    def __init__(self, connection: Connection) -> None:
        self.lines: list[str] = []
        self._connection = connection

    def __enter__(self) -> list[str]:
        event.listen(self._connection, "before_cursor_execute", self._statement)
        self._run = Prepared.run
        record, run = self._explain, self._run

        def recorded(prepared: Prepared, connection: Connection, parameters: Mapping[str, Any] = NOTHING) -> Cursor:
            record(*prepared.bound(connection.dialect, parameters))
            return run(prepared, connection, parameters)

        Prepared.run = recorded  # type: ignore[method-assign]
        return self.lines

    def __exit__(self, *_: object) -> None:
        Prepared.run = self._run  # type: ignore[method-assign]
        event.remove(self._connection, "before_cursor_execute", self._statement)

    def _statement(self, conn: Connection, cursor: Any, sql: str, parameters: Any, context: Any, many: bool) -> None:
        self._explain(sql, parameters)

    def _explain(self, sql: str, parameters: Any) -> None:
        raw = self._connection.connection.driver_connection
        assert raw is not None
        self.lines.extend(str(row[3]) for row in raw.execute(f"EXPLAIN QUERY PLAN {sql}", parameters))


def _plan(connection: Connection, query: Callable[[Connection], object]) -> list[str]:
    with Recorded(connection) as lines:
        query(connection)
    return lines


# Indexes that hold only the few rows that are waiting or alive, a table with a row per host, and the subquery that
# counts an index's first 200 entries may be read whole.
FEW = ("runs USING INDEX ix_runs_queue", "ix_runs_active", "ix_attempts_live", "SCAN runners", "SCAN anon_1")


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
