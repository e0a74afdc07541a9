"""Queued runs and runners as placement sees them, read and decided; offering is a verb of its own."""

from collections.abc import Collection
from datetime import datetime
from functools import partial

from control_plane.domain.ids import RunId, RunnerId
from control_plane.domain.placement import Placement, QueuedRun, RunnerView, place, queued_run
from control_plane.domain.run import Run
from control_plane.domain.runner import Runner
from control_plane.lifecycle.house import House
from control_plane.storage import reads
from control_plane.storage.database import Connection

# How far into the queue a round looks: mostly the first page fills all free slots, and a long queue costs nothing.
_PAGES = (64, 1_000, 5_000)


async def decide(house: House, ready: Collection[RunnerId], draining: Collection[RunnerId] = ()) -> Placement:
    """Which queued run goes where, and why the others wait; of a very long queue only the front is looked at.

    `ready`: runners with a welcomed session; `draining`: those whose agent said that it takes no more.
    """
    placement = Placement(offers=(), waiting={})
    for page in _PAGES:
        queued, runners = await house.database.read(partial(_look, house, ready, draining, page))
        now, now_s = house.clock.now(), house.clock.monotonic_s()
        placement = place(queued, runners, house.refusals, now, now_s, house.timing)
        free = sum(view.free for view in runners if view.connected and not view.draining)
        if len(queued) < page or free <= len(placement.offers):
            break
    return placement


def _look(
    house: House, ready: Collection[RunnerId], draining: Collection[RunnerId], limit: int, conn: Connection
) -> tuple[tuple[QueuedRun, ...], tuple[RunnerView, ...]]:
    runs = reads.queued_runs(conn, house.clock.now(), limit)
    if not runs:
        return (), ()
    runners = reads.runners(conn)
    withheld = _withheld(house, runners)
    queued = tuple(_queued(house, conn, run, withheld.get(run.id, "")) for run in runs)
    return queued, tuple(_view(runner, ready, draining) for runner in runners)


async def next_wake_s(house: House) -> float | None:
    """Seconds until a retry's not_before or a refusal ends; None: only an event can change anything."""
    now, now_s = house.clock.now(), house.clock.monotonic_s()
    at: datetime | None = await house.database.read(lambda conn: reads.next_not_before(conn, now))
    waits = [] if at is None else [(at - now).total_seconds()]
    ends_s = house.refusals.next_end_s(now_s)
    if ends_s is not None:
        waits.append(ends_s - now_s)
    return min((max(0.0, wait_s) for wait_s in waits), default=None)


def _withheld(house: House, runners: tuple[Runner, ...]) -> dict[RunId, str]:
    """Runs that may have a process under a fence which this database never gave out, with the runner that says so."""
    names = {runner.id: runner.name for runner in runners}
    listed = list(house.withheld.items())
    return {run_id: names.get(runner_id, runner_id) for runner_id, run_ids in listed for run_id in run_ids}


def _queued(house: House, conn: Connection, run: Run, withheld_by: str) -> QueuedRun:
    spec = house.spec(conn, run.spec_sha256)
    since = run.created_at if run.not_before is None else max(run.created_at, run.not_before)
    return queued_run(run, spec, since=since, withheld_by=withheld_by)


def _view(runner: Runner, ready: Collection[RunnerId], draining: Collection[RunnerId]) -> RunnerView:
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
    )
