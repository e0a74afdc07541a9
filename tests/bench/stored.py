"""A control plane that has worked for a year: runs that it finished, copied in bulk by SQL while it is down.

Its own tables and indexes hold the copies; what is copied are runs that a real runner has just executed, with their
attempts, events, tags and labels, so that every column holds what the product writes. The copies get ids (UUIDv7) and
times of one each `EVERY_MS`, up to now. The oldest `SELDOM` of them differ from all others in everything that a list
can be filtered by: whoever looked for them from the newest on would read every row.
"""

from __future__ import annotations

import pathlib
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass

from banksman.v1 import access_pb2, run_pb2, task_pb2

from control_plane.storage.sqlite import DATABASE_NAME
from tests.scenarios.house import House
from tests.scenarios.specs import spec

SELDOM = 60
# One run in so many failed.
FAILED_EVERY = 50
EVERY_MS = 30_000
# Copies are made in parts, so that no statement holds more than this in memory.
PART = 100_000

NUMBERS = "WITH RECURSIVE n(k) AS (SELECT :first UNION ALL SELECT k + 1 FROM n WHERE k < :last)"
MS = f"(:base_ms + k * {EVERY_MS})"
# 48 bits of time, version and variant, and digits that are spread like random ones.
TAIL = "printf('%04x%08x', k & 65535, (k * 2654435761) & 4294967295)"
NEW_ID = f"printf('%08x-%04x-7000-8000-', {MS} >> 16, {MS} & 65535) || {TAIL}"
WHICH = f"CASE WHEN k <= {SELDOM} THEN :seldom WHEN k % {FAILED_EVERY} = 0 THEN :failed ELSE :succeeded END"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """Ids of the runs that are copied."""

    succeeded: str
    failed: str
    seldom: str


def execute_patterns(house: House) -> Patterns:
    """The runs that are copied, executed by two real runners, of two tasks and by two principals."""
    for name in ("usual", "seldom"):
        house.agent(name, slots=8, labels={"only": name})
    usual = _run(house, house.doors, "usual", ["/bin/true"])
    failed = _run(house, house.doors, "usual too", ["/bin/false"], only="usual")
    principal = access_pb2.Principal(name="seldom", kind=access_pb2.PRINCIPAL_KIND_SERVICE, admin=True)
    made = house.doors.access.CreatePrincipal(access_pb2.CreatePrincipalRequest(principal=principal))
    token = house.doors.access.CreateToken(access_pb2.CreateTokenRequest(principal=made.id))
    other = house.client(token.secret)
    first = _run(house, other, "seldom", ["/bin/sh", "-c", "exit 3"])
    again = other.runs.RetryRun(run_pb2.RetryRunRequest(run=first))
    return Patterns(succeeded=usual, failed=failed, seldom=house.wait(again.id).id)


def _run(house: House, doors: object, name: str, argv: list[str], *, only: str = "") -> str:
    """The id of a finished run of a new task."""
    what = spec(argv, labels={"only": only or name})
    given = task_pb2.Task(name=name, spec=what, tags=[only or name])
    task = house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=given))
    options = run_pb2.RunOptions(labels={"kind": only or name})
    run = doors.runs.CreateRun(run_pb2.CreateRunRequest(task=task.id, options=options))  # type: ignore[attr-defined]
    return house.wait(run.id).id


def multiply(directory: pathlib.Path, patterns: Patterns, runs: int) -> float:
    """Add so many copies to the database of a server that is down; how many seconds that took."""
    begin = time.monotonic()
    connection = sqlite3.connect(directory / DATABASE_NAME, isolation_level=None)
    for pragma in ("synchronous=OFF", "foreign_keys=OFF", "cache_size=-400000", "journal_mode=OFF"):
        connection.execute(f"PRAGMA {pragma}")
    base_ms = int(time.time() * 1000) - runs * EVERY_MS - 60_000
    ids = {"succeeded": patterns.succeeded, "failed": patterns.failed, "seldom": patterns.seldom}
    connection.execute("BEGIN")
    for first in range(1, runs + 1, PART):
        _copy(connection, {"first": first, "last": min(runs, first + PART - 1), "base_ms": base_ms, **ids})
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")
    # As the server's own housekeeping does.
    connection.execute("PRAGMA analysis_limit=1000")
    connection.execute("PRAGMA optimize=0x10002")
    connection.close()
    return time.monotonic() - begin


def _copy(connection: sqlite3.Connection, given: Mapping[str, object]) -> None:
    """One part of the numbers: runs, and what belongs to them."""
    connection.execute("DROP TABLE IF EXISTS temp.made")
    columns = f"k, {NEW_ID} AS id, {MS} * 1000 AS at_us, {WHICH} AS pattern"
    connection.execute(f"CREATE TEMP TABLE made AS {NUMBERS} SELECT {columns} FROM n", given)
    _insert(connection, "runs", "id", {"id": "made.id", "short_id": "substr(made.id, -8)"})
    _insert(connection, "attempts", "run_id", {"run_id": "made.id"})
    _insert(connection, "run_events", "run_id", {"run_id": "made.id"}, without=("number",))
    _insert(connection, "run_marks", "run_id", {"run_id": "made.id"})


def _insert(
    connection: sqlite3.Connection, table: str, of: str, values: Mapping[str, str], *, without: tuple[str, ...] = ()
) -> None:
    """The pattern's rows of a table for each copy: instants move with the copy, `values` differ, the rest is equal."""
    columns = [
        (name, kind) for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})") if name not in without
    ]
    moved = {
        name: f"row.{name} + made.at_us - pattern.created_at"
        for name, kind in columns
        if kind == "BIGINT" and (name.endswith("_at") or name == "at")
    }
    chosen = [values.get(name) or moved.get(name) or f'row."{name}"' for name, _ in columns]
    names = ", ".join(f'"{name}"' for name, _ in columns)
    connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {', '.join(chosen)} FROM made"
        f" JOIN runs AS pattern ON pattern.id = made.pattern JOIN {table} AS row ON row.{of} = pattern.id"
        " ORDER BY made.k"
    )
