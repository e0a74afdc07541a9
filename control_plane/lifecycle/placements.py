"""Queued runs and runners as placement sees them, read and decided; offering is a verb of its own."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from control_plane.domain.concurrency import Taken
from control_plane.domain.copies import replace
from control_plane.domain.ids import RunId, RunnerId
from control_plane.domain.placement import Placement, QueuedRun, RunnerView, place
from control_plane.domain.runner import Runner
from control_plane.lifecycle import queue, restores
from control_plane.lifecycle.house import House
from control_plane.storage import reads
from control_plane.storage.database import Connection

# How far into the queue a round looks: mostly the first page fills all free slots, and a long queue costs nothing.
_PAGES = (16, 128, 1_000, 5_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One look at the database."""

    queued: tuple[QueuedRun, ...]
    runners: tuple[RunnerView, ...]
    next_not_before: datetime | None
    taken: Mapping[str, Taken]
    shut: Mapping[str, str]
    # Whether more runs wait than were looked at, and where a look at more lanes goes on.
    more: bool
    cursor: str
    empty: bool


async def decide(house: House, ready: Container[RunnerId], draining: Container[RunnerId] = ()) -> Placement:
    """Which queued run goes where, and why the others wait; of a very long queue only the front is looked at.

    `ready`: runners with a welcomed session; `draining`: those whose agent said that it takes no more.
    """
    for page in _PAGES:
        seen = await house.database.read(partial(_look, house, ready, draining, page))
        now, now_s = house.clock.now(), house.clock.monotonic_s()
        if held_back := restores.holds_back(house):
            return Placement(offers=(), waiting={run.run_id: held_back for run in seen.queued}, wake_s=1.0)
        turns = house.turns.known()
        placement = place(seen.queued, seen.runners, house.refusals, now, now_s, house.timing, seen.taken, turns)
        # One that holds more than it has slots, since it came back with fewer, takes nothing from the others' count.
        free = sum(max(0, view.free) for view in seen.runners if view.connected and not view.draining)
        if not seen.more or free <= len(placement.offers):
            break
    house.turns.cursor = seen.cursor
    slots = {run.run_id: run.slots for run in seen.queued}
    full = bool(slots) and free <= sum(slots[match.run_id] for match in placement.offers)
    wake_s = _wake_s(house, seen.next_not_before, now, now_s)
    return replace(placement, shut=seen.shut, wake_s=wake_s, full=full, empty=seen.empty)


def _look(
    house: House, ready: Container[RunnerId], draining: Container[RunnerId], limit: int, conn: Connection
) -> _Seen:
    now = house.clock.now()
    front = queue.front(conn, now, limit, house.turns.cursor)
    runners = reads.runners(conn) if front.runs else ()
    withheld = _withheld(house, runners)
    return _Seen(
        queued=tuple(as_queued(house, conn, run, withheld.get(run.id, ""), front) for run in front.runs),
        runners=tuple(as_view(runner, ready, draining) for runner in runners),
        next_not_before=reads.next_not_before(conn, now),
        taken=front.taken,
        shut=front.shut,
        more=front.more,
        cursor=front.cursor,
        empty=front.empty,
    )


def _wake_s(house: House, next_not_before: datetime | None, now: datetime, now_s: float) -> float | None:
    """Seconds until a retry's not_before or a refusal ends; None: only an event can change anything."""
    waits = [] if next_not_before is None else [(next_not_before - now).total_seconds()]
    ends_s = house.refusals.next_end_s(now_s)
    if ends_s is not None:
        waits.append(ends_s - now_s)
    return min((max(0.0, wait_s) for wait_s in waits), default=None)


def _withheld(house: House, runners: tuple[Runner, ...]) -> dict[RunId, str]:
    """Runs that may have a process under a fence which this database never gave out, with the runner that says so."""
    names = {runner.id: runner.name for runner in runners}
    listed = list(house.withheld.items())
    return {run_id: names.get(runner_id, runner_id) for runner_id, run_ids in listed for run_id in run_ids}


def as_queued(house: House, conn: Connection, run: reads.Waiting, withheld_by: str, front: queue.Front) -> QueuedRun:
    spec = house.spec(conn, run.spec_sha256)
    return QueuedRun(
        run_id=run.id,
        project_id=run.project_id,
        priority=run.priority,
        queue_rank=run.queue_rank,
        eligible_since=run.created_at if run.not_before is None else max(run.created_at, run.not_before),
        not_before=run.not_before,
        selectors=spec.selectors,
        slots=max(1, spec.slots),
        runner=spec.runner,
        withheld_by=withheld_by,
        lane=run.lane,
        places=front.places(run),
    )


def as_view(runner: Runner, ready: Container[RunnerId], draining: Container[RunnerId]) -> RunnerView:
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
