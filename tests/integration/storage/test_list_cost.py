"""A list costs the database the same work however many runs are stored: its own steps are counted, not the time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Connection, Engine, insert

from control_plane.domain.attempt import AttemptState
from control_plane.domain.filter_fields import RUN_FIELDS
from control_plane.domain.filters import parse_filter
from control_plane.domain.ids import PrincipalId, ProjectId, RunnerId, TaskId
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run, RunState, TriggerType
from control_plane.domain.runner import Runner
from control_plane.storage import reads, schema, sqlite, writes
from control_plane.storage.reads import PageRequest, RunFilter
from control_plane.storage.shapes import ATTEMPT, RUN
from control_plane.storage.tables import ATTEMPTS, RUN_MARKS, RUNS
from tests.contract.storage_things import PROJECT_ID, T0, USER_ID, Things
from tests.fakes.clock import FakeClock

FEW, MANY = 400, 6_000
SELDOM = 60
# A filter by time has a slack of a day, so the usual runs are spread over many.
DAY_S = 86_400
SELDOM_USER = PrincipalId("seldom-principal")
SELDOM_TASK, USUAL_TASK = TaskId("00000000-0000-7000-8000-00000000000a"), TaskId("00000000-0000-7000-8000-00000000000b")
USUAL = {
    "task": 'task = "usual"',
    "task by id": f'task = "{USUAL_TASK}"',
    "template": "template = usual",
    "template by id": f'template = "{USUAL_TASK}"',
    "tag": "tag : usual",
    "label": "label.usual = yes",
    "label's key": "label : usual",
    "runner": "runner = usual",
    "creator": f"creator = {USER_ID}",
    "trigger": "trigger = MANUAL",
    "state": "state = SUCCEEDED",
    "reason": "reason = EXIT_ZERO",
    "not a state": "state != FAILED",
    "either": "tag : usual OR state = SUCCEEDED",
    "both": "tag : usual AND state = SUCCEEDED AND trigger = MANUAL",
    "after": 'created_at > "2000-01-01T00:00:00Z"',
}
# What only the oldest runs have: a walk from the newest on would read all others first.
UNUSUAL = {
    "task": 'task = "seldom"',
    "task by id": f'task = "{SELDOM_TASK}"',
    "template": "template = seldom",
    "template by id": f'template = "{SELDOM_TASK}"',
    "tag": "tag : seldom",
    "label": "label.seldom = yes",
    "label's key": "label : seldom",
    "runner": "runner = seldom",
    "creator": "creator = seldom",
    "trigger": "trigger = BACKFILL",
    "state": "state = FAILED",
    "reason": "reason = OOM_KILLED",
    "not a state": "state != SUCCEEDED",
    "not a trigger": "NOT trigger = MANUAL",
    "either": "tag : seldom OR task = seldom",
    "both": "tag : usual_too AND tag : seldom AND state = FAILED",
    "after": 'created_at > "2100-01-01T00:00:00Z"',
    "before": f'created_at < "{(T0 + timedelta(minutes=1)).isoformat()}"',
}
NOTHING = {
    "task": "task = nothing",
    "template": "template = nothing",
    "tag": "tag : nothing",
    "label": "label.usual = nothing",
    "label's key": "label : nothing",
    "runner": "runner = nothing",
    "creator": "creator = nothing",
    "trigger": "trigger = RETRY",
    "state": "state = LOST",
    "reason": "reason = RUN_TIMEOUT",
}
# Indexes that projects share.
SHARED = [USUAL[name] for name in ("tag", "label", "label's key", "runner", "creator", "both")]
FILTERS = [*USUAL.values(), *UNUSUAL.values(), *NOTHING.values()]


class Shop:
    """A database, and how many steps its virtual machine takes for a read."""

    def __init__(self, engine: Engine, seldom: int) -> None:
        self._engine, self._things = engine, Things(FakeClock(start=T0))
        with engine.begin() as connection:
            self._things.foundations(connection)
            writes.insert_principal(
                connection, self._things.principal(id=SELDOM_USER, name="seldom"), created_by=USER_ID
            )
            for name in ("usual", "seldom"):
                writes.insert_runner(connection, self._runner(name), created_by=USER_ID)
            self._runs(connection, "seldom", seldom)

    def usual(self, count: int) -> None:
        """So many runs more, which are like most."""
        with self._engine.begin() as connection:
            self._runs(connection, "usual", count)

    def steps(self, wanted: RunFilter, project_id: ProjectId = PROJECT_ID) -> int:
        """Of one page, in tens."""
        counted = 0

        def tick() -> int:
            nonlocal counted
            counted += 1
            return 0

        with self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.set_progress_handler(tick, 10)
            reads.list_runs(connection, project_id, wanted, PageRequest())
            raw.set_progress_handler(None, 0)
            connection.rollback()
        return counted

    def _runner(self, name: str) -> Runner:
        return self._things.runner(id=RunnerId(f"runner-{name}"), name=name)

    def _run(self, kind: str) -> Run:
        usual = kind == "usual"
        return self._things.run(
            task_id=USUAL_TASK if usual else SELDOM_TASK,
            task_name=kind,
            template_id=USUAL_TASK if usual else SELDOM_TASK,
            template_name=kind,
            state=RunState.SUCCEEDED if usual else RunState.FAILED,
            reason=Reason.EXIT_ZERO if usual else Reason.OOM_KILLED,
            trigger_type=TriggerType.MANUAL if usual else TriggerType.BACKFILL,
            created_by=USER_ID if usual else SELDOM_USER,
            created_at=self._things.clock.now(),
        )

    def _runs(self, connection: Connection, kind: str, count: int) -> None:
        runs = []
        for _ in range(count):
            self._things.clock.advance(1 if kind == "seldom" else DAY_S / 100)
            runs.append(self._run(kind))
        connection.execute(insert(RUNS), [RUN.values(run, short_id=run.id[-8:]) for run in runs])
        over = partial(self._things.attempt, state=AttemptState.SUCCEEDED, assigned_at=T0, log_sealed_at=T0)
        attempts = [over(run, self._runner(kind)) for run in runs]
        rows = [ATTEMPT.values(each, project_id=PROJECT_ID, log_deleted_at=None) for each in attempts]
        connection.execute(insert(ATTEMPTS), rows)
        marks = [("", kind), (kind, "yes"), ("", "usual_too")]
        lines = [{"run_id": run.id, "key": key, "value": value} for run in runs for key, value in marks]
        connection.execute(insert(RUN_MARKS), lines)


@pytest.fixture(scope="module", params=["without statistics", "with statistics"])
def costs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[int]]]:
    """Steps of each list with few runs stored, and with many."""
    engines = sqlite.open_engines(tmp_path_factory.mktemp("lists") / "banksman.db")
    schema.migrate(engines.writer)
    shop = Shop(engines.writer, SELDOM)
    found: dict[str, list[int]] = {text: [] for text in (*FILTERS, *(f"elsewhere {text}" for text in SHARED))}
    for more in (FEW, MANY - FEW):
        shop.usual(more)
        if request.param == "with statistics":
            with engines.writer.connect() as connection:
                connection.exec_driver_sql("ANALYZE")
                connection.rollback()
        for text in FILTERS:
            found[text].append(shop.steps(RunFilter(matching=parse_filter(text, RUN_FIELDS))))
        for text in SHARED:
            wanted = RunFilter(matching=parse_filter(text, RUN_FIELDS))
            found[f"elsewhere {text}"].append(shop.steps(wanted, ProjectId("another")))
    yield found
    engines.dispose()


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_costs_the_same_with_many_runs(costs: dict[str, list[int]], text: str) -> None:
    few, many = costs[text]
    assert many <= 1.5 * few + 100, f"{few}0 steps with {FEW} runs stored, {many}0 with {MANY}"


@pytest.mark.parametrize("text", SHARED)
def test_a_small_project_pays_nothing_for_the_runs_of_others(costs: dict[str, list[int]], text: str) -> None:
    few, many = costs[f"elsewhere {text}"]
    assert many <= 1.5 * few + 100, f"{few}0 steps with {FEW} runs of others stored, {many}0 with {MANY}"


def test_every_field_is_among_them() -> None:
    assert all(any(name in text for text in FILTERS) for name in RUN_FIELDS)
