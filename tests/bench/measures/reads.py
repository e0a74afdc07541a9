"""Reads: GetRun, ListRuns and GetTask, at rest and while runs and logs flow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable

from banksman.v1 import run_pb2, task_pb2

from tests.bench.measures.children import percentile
from tests.bench.measures.loads import flowing, product
from tests.bench.measures.throughput import submit_all
from tests.bench.registry import Figure, Limits, Round, measurement
from tests.bench.systems import Setup
from tests.scenarios.specs import spec

ALONE = Setup(slots=16, floor=False)
VERBS = ("GetRun", "ListRuns", "GetTask")


def figures(where: str, bound: float | None) -> tuple[Figure, ...]:
    made = []
    for verb in VERBS:
        made.append(Figure(name=f"{verb} {where} p50", label=f"{verb} {where}, p50", unit="ms"))
        made.append(Figure(name=f"{verb} {where} p99", label="… p99", unit="ms", bound=bound))
    return tuple(made)


async def stored(round: Round) -> dict[str, Callable[[], Awaitable[object]]]:
    """Runs and a task that can be read; answers the calls that read them."""
    stubs = product(round).stubs
    await submit_all(round, round.pick(full=100, quick=50, tiny=5))
    await round.system.idle()
    runs = (await stubs.runs.ListRuns(run_pb2.ListRunsRequest())).runs
    given = task_pb2.Task(name=f"task {round.directory.name}", spec=spec(["/bin/true"]))
    task = await stubs.tasks.CreateTask(task_pb2.CreateTaskRequest(task=given))
    return {
        "GetRun": lambda: stubs.runs.GetRun(run_pb2.GetRunRequest(run=runs[0].id)),
        "ListRuns": lambda: stubs.runs.ListRuns(run_pb2.ListRunsRequest(page_size=50)),
        "GetTask": lambda: stubs.tasks.GetTask(task_pb2.GetTaskRequest(task=task.id)),
    }


async def time_calls(round: Round, where: str, calls: dict[str, Callable[[], Awaitable[object]]]) -> None:
    """One call after another, the verbs by turns."""
    waits: dict[str, list[float]] = {verb: [] for verb in calls}
    for _ in range(round.pick(full=200, quick=100, tiny=3)):
        for verb, call in calls.items():
            begin = time.perf_counter()
            await call()
            waits[verb].append((time.perf_counter() - begin) * 1000)
    for verb, found in waits.items():
        round.record(f"{verb} {where} p50", statistics.median(found))
        round.record(f"{verb} {where} p99", percentile(found, 0.99))


@measurement(
    "reads",
    says="GetRun, ListRuns (50 a page) and GetTask, one call after another, at rest",
    figures=figures("at rest", None),
    limits=Limits(full=40),
    setup=ALONE,
)
async def reads(round: Round) -> None:
    await time_calls(round, "at rest", await stored(round))


@measurement(
    "reads under load",
    says="the same while 300 runs/s and 50 MB/s of logs flow, as far as the host carries them",
    figures=(
        *figures("under load", 100),
        Figure(name="reads load runs", label="… runs that flowed meanwhile", unit="runs/s", more_is_better=True),
        Figure(name="reads load logs", label="… logs that flowed meanwhile", unit="MB/s", more_is_better=True),
    ),
    limits=Limits(full=110),
    setup=ALONE,
)
async def reads_loaded(round: Round) -> None:
    calls = await stored(round)
    async with flowing(round) as flowed:
        await time_calls(round, "under load", calls)
    round.record("reads load runs", flowed.runs_per_s)
    round.record("reads load logs", flowed.log_mb_per_s)
