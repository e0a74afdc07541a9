"""Filters against an oracle: what the database finds is what reading every row in Python finds."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.domain.filter_fields import RUN_FIELDS, TASK_FIELDS
from control_plane.domain.filters import All, Comparison, Field, Filter, Kind, Not, Operator, Some, parse_filter
from control_plane.domain.ids import PrincipalId, TemplateId
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run, RunOptions, RunState, TriggerType
from control_plane.domain.task import Task
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection, Database
from control_plane.storage.reads import PageRequest, RunFilter, TaskFilter
from tests.contract.storage_things import PROJECT_ID, T0, USER_ID, Things, later
from tests.fakes.clock import FakeClock

NAMES = ("build", "build it", "night", "nightly", "a*", 'q"uote', "back\\slash")
TAGS = ("nightly", "a b", "x", "it's")
VALUES = ("core", "web", "1")
KEYS = ("team", "a/b", "x.y-z")
# An id is never more than a minute older than the row: lists by time begin and end by ids.
TIMES = tuple(later(seconds) for seconds in (-60, 0, 1, 45))
# What an index is chosen by is shaped like an id, or it is a name.
TEMPLATE_IDS = tuple(TemplateId(f"0190aaaa-0000-7000-8000-0000000000{number}") for number in ("a0", "a1"))
OTHER_ID = PrincipalId("0190aaaa-0000-7000-8000-00000000000f")
MOST = PageRequest(page_size=1000)


def made_of(number: int) -> dict[str, Any]:
    """The template that a task or run was made of, if it was."""
    if number % 3:
        return {}
    return {"template_id": TEMPLATE_IDS[number % 2], "template_name": NAMES[number % 2], "template_version": 1}


class Stock:
    """Rows in a database, and the same in Python."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.things = Things(FakeClock(start=T0))
        self.tasks: list[Task] = []
        self.runs: list[Run] = []
        self.scheduled: set[str] = set()
        self.runners: dict[str, set[str]] = {}
        self.people = {USER_ID: "ada", OTHER_ID: "bob"}

    def fill(self, conn: Connection) -> None:
        self.things.foundations(conn)
        writes.insert_principal(conn, self.things.principal(id=OTHER_ID, name="bob"), created_by="")
        choices = itertools.cycle(range(7919))
        for number, name in enumerate(NAMES):
            task = self.things.task(
                name=name,
                tags=TAGS[: number % 4],
                labels={key: VALUES[(number + i) % 3] for i, key in enumerate(KEYS[: number % 3])},
                owner=(USER_ID, OTHER_ID)[number % 2],
                active=number % 3 != 0,
                is_public=number % 2 == 0,
                **made_of(number),
                created_at=TIMES[number % 4],
            )
            writes.insert_task(conn, task)
            self.tasks.append(task)
            if number % 3 == 1:
                self.scheduled.add(task.id)
                writes.insert_schedule(conn, self.things.schedule(task, name=f"s{number}"))
        hosts = [self.things.runner(name=name) for name in ("one", "two")]
        for host in hosts:
            writes.insert_runner(conn, host, created_by=USER_ID)
        for number in range(60):
            self._run(conn, next(choices), hosts[number % 2] if number % 3 else None)

    def _run(self, conn: Connection, number: int, host: Any) -> None:
        task = None if number % 5 == 0 else self.tasks[number % len(self.tasks)]
        run = self.things.run(
            state=list(RunState)[number % len(RunState)],
            reason=None if number % 4 == 0 else list(Reason)[number % 5],
            task_id=None if task is None else task.id,
            task_name="" if task is None else task.name,
            tags=TAGS[: number % 4],
            options=RunOptions(labels=dict.fromkeys(KEYS[: number % 4], VALUES[number % 3])),
            trigger_type=list(TriggerType)[number % 3],
            created_by=(USER_ID, OTHER_ID)[number % 2],
            created_at=TIMES[number % 4],
            **made_of(number),
        )
        writes.insert_run(conn, run)
        self.runs.append(run)
        self.runners[run.id] = set()
        if host is not None:
            writes.insert_attempt(conn, self.things.attempt(run, host))
            self.runners[run.id] = {host.id, host.name}

    def of_run(self, run: Run) -> dict[str, Any]:
        return {
            "state": str(run.state),
            "task": {run.task_id, run.task_name} if run.task_id else set(),
            "template": {run.template_id, run.template_name} if run.template_id else set(),
            "tag": set(run.tags),
            "label": dict(run.options.labels),
            "runner": self.runners[run.id],
            "creator": {run.created_by, self.people[run.created_by]},
            "trigger": str(run.trigger_type),
            "created_at": run.created_at,
            "reason": None if run.reason is None else str(run.reason),
        }

    def of_task(self, task: Task) -> dict[str, Any]:
        return {
            "name": task.name,
            "tag": set(task.tags),
            "label": dict(task.labels),
            "owner": {task.owner, self.people[task.owner]},
            "active": task.active,
            "public": task.is_public,
            "template": {task.template_id, task.template_name} if task.template_id else set(),
            "scheduled": task.id in self.scheduled,
            "created_at": task.created_at,
            "updated_at": task.updated_at,
            "deleted_at": task.deleted_at,
        }


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    path: Path = tmp_path_factory.mktemp("filters") / "state"
    filled = Stock(Database.open(path, FakeClock(start=T0)))
    with asyncio.Runner() as runner:
        runner.run(filled.database.write(filled.fill))
        filled.ask = runner.run  # type: ignore[attr-defined]
        yield filled
        runner.run(filled.database.close())


def holds(found: Filter, facts: dict[str, Any]) -> bool:
    match found:
        case Comparison():
            return compared(found, facts[found.field])
        case Not():
            return not holds(found.part, facts)
        case All():
            return all(holds(part, facts) for part in found.parts)
        case Some():
            return any(holds(part, facts) for part in found.parts)


ORDER: dict[Operator, Callable[[datetime, datetime], bool]] = {
    Operator.LESS: lambda one, other: one < other,
    Operator.AT_MOST: lambda one, other: one <= other,
    Operator.GREATER: lambda one, other: one > other,
    Operator.AT_LEAST: lambda one, other: one >= other,
}


def compared(comparison: Comparison, fact: Any) -> bool:
    wanted: Any = comparison.value
    if comparison.operator in ORDER:
        return fact is not None and ORDER[comparison.operator](fact, wanted)
    if comparison.field == "label":
        equal = fact.get(comparison.key) == wanted if comparison.key else wanted in fact
    elif comparison.prefix:
        equal = fact.startswith(wanted)
    else:
        equal = wanted in fact if isinstance(fact, set) else fact == wanted
    return equal is not (comparison.operator is Operator.NOT_EQUAL)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*") + '"'


def leaves(fields: dict[str, Field], words: tuple[str, ...]) -> st.SearchStrategy[str]:
    """A comparison as a person writes it."""
    made = []
    equal = st.sampled_from(["=", "!=", " = "])
    for name, field in fields.items():
        match field.kind:
            case Kind.WORD:
                made.append(st.tuples(st.just(name), equal, st.sampled_from(field.words)).map("".join))
            case Kind.FLAG:
                made.append(st.tuples(st.just(name), equal, st.sampled_from(["true", "false"])).map("".join))
            case Kind.TIME:
                at = st.sampled_from(TIMES).map(lambda time: quoted((time + timedelta(0)).isoformat()))
                made.append(
                    st.tuples(st.just(name), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), at).map("".join)
                )
            case Kind.SET:
                value = st.sampled_from(TAGS).map(quoted)
                made.append(st.tuples(st.just(name), st.sampled_from([":", "=", "!="]), value).map("".join))
            case Kind.MAP:
                key = st.sampled_from(KEYS)
                made.append(
                    st.tuples(key, equal, st.sampled_from(VALUES)).map(lambda t, n=name: f'{n}."{t[0]}"{t[1]}{t[2]}')
                )
                made.append(key.map(lambda key, n=name: f"{n}:{quoted(key)}"))
            case Kind.TEXT:
                whole = st.sampled_from(NAMES).map(quoted)
                start = st.sampled_from(["b*", "night*", '"build *"', "*"])
                made.append(st.tuples(st.just(name), equal, st.one_of(whole, start)).map("".join))
            case Kind.NAMED:
                made.append(st.tuples(st.just(name), equal, st.sampled_from(words).map(quoted)).map("".join))
    return st.one_of(made)


def texts(fields: dict[str, Field]) -> st.SearchStrategy[str]:
    words = (*NAMES, "ada", "bob", "one", "two", TEMPLATE_IDS[0], USER_ID, "nobody")
    return st.recursive(
        leaves(fields, words),
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' AND '.join(parts)})"),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' OR '.join(parts)})"),
            st.lists(inner, min_size=2, max_size=2).map(" ".join).map(lambda text: f"({text})"),
            inner.map(lambda text: f"NOT {text}"),
            inner.map(lambda text: f"-({text})"),
        ),
        max_leaves=6,
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts(dict(RUN_FIELDS)))
def test_runs_are_those_that_the_oracle_finds(stock: Stock, text: str) -> None:
    matching = parse_filter(text, RUN_FIELDS)
    wanted = RunFilter(matching=matching)
    query = partial(reads.list_runs, project_id=PROJECT_ID, wanted=wanted, request=MOST)
    page = stock.ask(stock.database.read(query))  # type: ignore[attr-defined]
    expected = {run.id for run in stock.runs if holds(matching, stock.of_run(run))}
    assert {run.id for run in page.items} == expected


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts(dict(TASK_FIELDS)))
def test_tasks_are_those_that_the_oracle_finds(stock: Stock, text: str) -> None:
    matching = parse_filter(text, TASK_FIELDS)
    wanted = TaskFilter(matching=matching)
    query = partial(reads.list_tasks, project_id=PROJECT_ID, request=MOST, wanted=wanted)
    page = stock.ask(stock.database.read(query))  # type: ignore[attr-defined]
    expected = [task.name for task in stock.tasks if holds(matching, stock.of_task(task))]
    assert [task.name for task in page.items] == sorted(expected)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts(dict(RUN_FIELDS)), size=st.integers(1, 7))
def test_pages_of_a_filter_are_the_whole_and_belong_to_it(stock: Stock, text: str, size: int) -> None:
    wanted = RunFilter(matching=parse_filter(text, RUN_FIELDS))
    whole = stock.ask(stock.database.read(partial(reads.list_runs, project_id=PROJECT_ID, wanted=wanted, request=MOST)))  # type: ignore[attr-defined]
    found: list[str] = []
    token = ""
    while True:
        request = PageRequest(page_size=size, page_token=token)
        query = partial(reads.list_runs, project_id=PROJECT_ID, wanted=wanted, request=request)
        page = stock.ask(stock.database.read(query))  # type: ignore[attr-defined]
        found += [run.id for run in page.items]
        token = page.next_page_token
        if not token:
            break
    assert found == [run.id for run in whole.items]


async def test_every_value_is_a_bound_parameter(database: Database) -> None:
    """What a caller wrote is in no statement's text."""
    from sqlalchemy import select
    from sqlalchemy.dialects import postgresql, sqlite

    from control_plane.storage.filters import RUN_LEAVES, condition
    from control_plane.storage.tables import RUNS

    evil = "x'); DROP TABLE runs; --"
    text = f'tag : "{evil}" OR label."{evil}" = "{evil}" OR task = "{evil}" OR runner = "{evil}" OR creator = "{evil}"'
    statement = select(RUNS.c.id).where(condition(parse_filter(text, RUN_FIELDS), RUN_LEAVES))
    for dialect in (sqlite.dialect(), postgresql.dialect()):
        compiled = statement.compile(dialect=dialect)
        assert "DROP" not in str(compiled)
        assert list(compiled.params.values()).count(evil) >= 5
