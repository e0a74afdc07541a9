"""Queued runs and runners as placement sees them, read and decided; offering is a verb of its own."""

from collections.abc import Collection
from datetime import datetime

from control_plane.domain.ids import RunnerId
from control_plane.domain.placement import Placement, QueuedRun, RunnerView, place, queued_run
from control_plane.domain.run import Run
from control_plane.domain.runner import Runner
from control_plane.lifecycle.house import House
from control_plane.storage import reads
from control_plane.storage.database import Connection

_RUNS_LOOKED_AT = 1_000


async def decide(house: House, ready: Collection[RunnerId], draining: Collection[RunnerId] = ()) -> Placement:
    """Which queued run goes where, and why the others wait.

    `ready`: runners with a welcomed session; `draining`: those whose agent said that it takes no more.
    """

    def body(conn: Connection) -> tuple[tuple[QueuedRun, ...], tuple[RunnerView, ...]]:
        now = house.clock.now()
        queued = tuple(_queued(house, conn, run) for run in reads.queued_runs(conn, now, _RUNS_LOOKED_AT))
        if not queued:
            return (), ()
        return queued, tuple(_view(house, runner, ready, draining) for runner in reads.runners(conn))

    queued, runners = await house.database.read(body)
    now_s = house.clock.monotonic_s()
    return place(queued, runners, house.refusals, house.clock.now(), now_s, house.timing)


async def next_wake_s(house: House) -> float | None:
    """Seconds until a retry's not_before or a refusal ends; None: only an event can change anything."""
    now, now_s = house.clock.now(), house.clock.monotonic_s()
    at: datetime | None = await house.database.read(lambda conn: reads.next_not_before(conn, now))
    waits = [] if at is None else [(at - now).total_seconds()]
    ends_s = house.refusals.next_end_s(now_s)
    if ends_s is not None:
        waits.append(ends_s - now_s)
    return min((max(0.0, wait_s) for wait_s in waits), default=None)


def _queued(house: House, conn: Connection, run: Run) -> QueuedRun:
    spec = house.spec(conn, run.spec_sha256)
    since = run.created_at if run.not_before is None else max(run.created_at, run.not_before)
    return queued_run(run, spec, since=since)


def _view(house: House, runner: Runner, ready: Collection[RunnerId], draining: Collection[RunnerId]) -> RunnerView:
    return RunnerView(
        runner_id=runner.id,
        name=runner.name,
        labels=runner.labels,
        allowed_project_ids=runner.allowed_project_ids,
        slots=runner.slots,
        free=runner.slots - runner.slots_used,
        connected=runner.id in ready,
        draining=runner.draining or runner.id in draining,
        revoked=runner.revoked_at is not None,
        withheld=house.withheld.get(runner.id, frozenset()),
    )
