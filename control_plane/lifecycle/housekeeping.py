"""What keeps the store in order: the first start's rows, and the removal of what is old."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.domain.project import Retention
from control_plane.lifecycle import projects, restores, retention, runners, tasks
from control_plane.lifecycle.house import House
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

ROWS_A_VERB = 500
# So many verbs of one kind at most in one sweep: the next one goes on.
VERBS_A_SWEEP = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long things are kept, in seconds. Runs count from when they settled, join tokens from their expiry."""

    request_ids_s: float = 86_400.0
    # Of projects that say nothing else.
    runs_s: float = 90 * 86_400.0
    join_tokens_s: float = 30 * 86_400.0
    firings_s: float = 90 * 86_400.0
    # Deleted ones without a run; until then they can be brought back.
    tasks_s: float = 30 * 86_400.0
    # Notifications that are over.
    deliveries_s: float = 30 * 86_400.0
    # What stays of a deleted run, for a runner that still lists it.
    tombstones_s: float = 90 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How many rows of which kind were removed."""

    request_ids: int
    runs: int
    tasks: int
    specs: int
    join_tokens: int
    firings: int
    tombstones: int
    deliveries: int = 0


async def prepare(house: House) -> reads.Instance:
    """At every start, before anything is served: identity, the default project, and that nobody is connected."""

    def body(connection: Connection) -> reads.Instance:
        writes.insert_server(connection, instance_id=house.clock.new_id(), at=house.clock.now())
        instance = reads.instance(connection)
        if instance is None:
            raise LookupError("the database has no identity")
        return instance

    instance = await house.database.write(body, name="housekeeping.prepare")
    await restores.open_anew(house)
    await projects.ensure_default(house)
    await runners.disconnect_all(house)
    await tasks.cancel_waiting(house)
    return instance


async def sweep(house: House, keep: Keep) -> Swept:
    """Remove what is older than it is kept, in short verbs, then shrink the database's log.

    Runs are only hidden here, and purged with their logs behind it; what refers to nothing any more goes after a day.
    """
    await tasks.cancel_waiting(house)
    now = house.clock.now()
    day_ago = now - timedelta(days=1)
    swept = Swept(
        request_ids=await _in_parts(house, writes.delete_request_ids, _before(now, keep.request_ids_s)),
        runs=await retention.expire_runs(house, Retention(runs_s=keep.runs_s)),
        tasks=await _in_parts(house, writes.delete_unused_tasks, _before(now, keep.tasks_s)),
        specs=await _in_parts(house, writes.delete_unused_specs, day_ago),
        join_tokens=await _in_parts(house, writes.delete_join_tokens, _before(now, keep.join_tokens_s)),
        firings=await _in_parts(house, writes.delete_firings, _before(now, keep.firings_s)),
        deliveries=await _in_parts(house, writes.delete_deliveries, _before(now, keep.deliveries_s)),
        tombstones=await _tombstones(house, _before(now, keep.tombstones_s), now),
    )
    await house.database.tidy()
    return swept


def _before(now: datetime, kept_s: float) -> datetime:
    return now - timedelta(seconds=kept_s)


async def _tombstones(house: House, before: datetime, now: datetime) -> int:
    def body(connection: Connection) -> int:
        return writes.delete_tombstones(connection, before=before, limit=ROWS_A_VERB, now=now)

    return await _repeated(house, body, "housekeeping.tombstones", ROWS_A_VERB)


async def _in_parts(house: House, remove: Callable[..., int], before: datetime) -> int:
    def body(connection: Connection) -> int:
        return remove(connection, before=before, limit=ROWS_A_VERB)

    return await _repeated(house, body, f"housekeeping.{remove.__name__}", ROWS_A_VERB)


async def _repeated(house: House, body: Callable[[Connection], int], name: str, limit: int) -> int:
    removed = 0
    for _ in range(VERBS_A_SWEEP):
        part = await house.database.write(body, name=name)
        removed += part
        if part < limit:
            break
    return removed
