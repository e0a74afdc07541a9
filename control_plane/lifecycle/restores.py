"""A database that was put back from a backup: it must give no fence out twice, and does not know what runners hold.

Its generation, the high bits of every fence, is raised, by `banksman-server restored` or when the file beside the
database says that it had come further. Until the runners have told what they hold, nothing is offered: a queued run of
the backup may be running. A run that a runner lists under a fence which this database never gave out is withheld, also
over a restart, until that runner no longer lists it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from control_plane.clock import Clock
from control_plane.domain.ids import AttemptKey, RunId, RunnerId, generation_of
from control_plane.domain.session import HeldAttempt, HeldPhase, Verdict, VerdictKind
from control_plane.lifecycle.house import House, Returning
from control_plane.storage import high_water, reads, writes
from control_plane.storage.database import Connection, Database
from control_plane.storage.high_water import HighWater
from control_plane.storage.reads.server import AWAITING_RUNNERS, setting, withheld_runs
from control_plane.telemetry import logger

log = logger("lifecycle")

# Runners that do not come back so soon are not waited for; what they hold is withheld when they do.
RETURN_S = 60.0
_RUNS_TOLD = 5
_RUNS_KEPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """A generation that was raised."""

    before: int
    after: int


async def raise_generation(database: Database, clock: Clock, *, above: int = 0) -> Raised:
    """The operator's word that the database was restored. Raises ValueError when `above` leaves no room."""

    def body(conn: Connection) -> Raised:
        return _raise(conn, clock, max(above, _marked(database, conn)))

    raised = await database.write(body, name="restores.raise")
    await remember(database)
    return raised


async def open_anew(house: House) -> None:
    """At the server's start: notice a restore that nobody told of, and take up what is still withheld."""

    def body(conn: Connection) -> Raised | None:
        mark, instance = high_water.load(house.database.path.parent), reads.instance(conn)
        if mark is None or instance is None or mark.instance_id != instance.instance_id:
            return None
        if mark.generation <= instance.generation and mark.event <= _newest_event(conn):
            return None
        return _raise(conn, house.clock, mark.generation)

    raised = await house.database.write(body, name="restores.notice")
    if raised is not None:
        log.warning(
            "the database is older than the one that was served here last: it was restored from a backup",
            generation=raised.after,
            advice="runs of the lost time are shown by the runners that hold them",
        )
    house.withheld.update(await house.database.read(withheld_runs))
    await house.database.read(partial(_await_runners, house))
    await remember(house.database)


async def remember(database: Database) -> None:
    """Write down how far the database has come; a disk that is full keeps the older mark."""

    def body(conn: Connection) -> HighWater | None:
        instance = reads.instance(conn)
        if instance is None:
            return None
        return HighWater(instance_id=instance.instance_id, generation=instance.generation, event=_newest_event(conn))

    mark = await database.read(body)
    if mark is not None:
        try:
            high_water.save(database.path.parent, mark)
        except OSError as error:
            log.warning("how far the database has come could not be written down", error=str(error))


async def keep(house: House) -> None:
    """Now and then: remember how far the database is, and forget a restore after which everybody has returned."""
    await remember(house.database)
    if not holds_back(house) and await house.database.read(lambda conn: bool(setting(conn, AWAITING_RUNNERS))):
        forget = partial(writes.delete_setting, key=AWAITING_RUNNERS)
        await house.database.write(forget, name="restores.returned")


def holds_back(house: House) -> str:
    """Why nothing is offered yet; empty when the runners have told, or have had the time to."""
    returning = house.returning
    if returning is None:
        return ""
    if not returning.runners or house.clock.monotonic_s() >= returning.until_s:
        house.returning = None
        return ""
    return "The control plane was restored from a backup and waits for its runners to tell what they hold."


async def told(
    house: House, runner_id: RunnerId, entries: Iterable[HeldAttempt], verdicts: Iterable[Verdict], *, whole: bool
) -> None:
    """What a runner lists was judged. Unknown fences withhold their runs, unless nothing of them can live any more.

    `whole`: it was the inventory of a Hello.
    """
    unknown = {verdict.key for verdict in verdicts if verdict.kind is VerdictKind.UNKNOWN}
    over = {entry.key for entry in entries if _is_over(entry)}
    withheld = frozenset(sorted({key.run_id for key in unknown - over})[:_RUNS_KEPT])
    if withheld != house.withheld.get(runner_id, frozenset()):
        await _withhold(house, runner_id, withheld, unknown)
    if whole and house.returning is not None:
        house.returning.runners.discard(runner_id)
        if not holds_back(house):
            house.watch.notify("queue")


def _is_over(entry: HeldAttempt) -> bool:
    """Its host says that no process of it lives."""
    return entry.phase is HeldPhase.EXITED and entry.exit is not None and entry.exit.tree_empty


async def _withhold(house: House, runner_id: RunnerId, runs: frozenset[RunId], unknown: set[AttemptKey]) -> None:
    new = runs - house.withheld.get(runner_id, frozenset())
    if runs:
        house.withheld[runner_id] = runs

    def body(conn: Connection) -> int:
        writes.store_withheld(conn, runner_id=runner_id, runs=runs, at=house.clock.now())
        return reads.generation(conn)

    generation = await house.database.write(body, name="restores.withhold")
    if not runs:
        house.withheld.pop(runner_id, None)
        house.watch.notify("queue")
    if new:
        _warn(runner_id, new, max((generation_of(key.lease_epoch) for key in unknown), default=0), generation)


def _warn(runner_id: RunnerId, runs: frozenset[RunId], listed: int, ours: int) -> None:
    advice = (
        "a restore from a backup explains it"
        if listed < ours
        else (
            "if the database was restored from a backup and nobody has said so, stop the server and run"
            f" `banksman-server restored --above {listed}`"
        )
    )
    log.warning(
        "a runner holds runs that this database does not know; they are offered to nobody",
        runner=runner_id,
        runs=", ".join(sorted(runs)[:_RUNS_TOLD]),
        count=len(runs),
        advice=advice,
    )


def _raise(conn: Connection, clock: Clock, above: int) -> Raised:
    before = reads.generation(conn)
    after = max(before, above) + 1
    writes.raise_generation(conn, after)
    writes.raise_setting(conn, AWAITING_RUNNERS, 1, clock.now())
    return Raised(before=before, after=after)


def _marked(database: Database, conn: Connection) -> int:
    mark, instance = high_water.load(database.path.parent), reads.instance(conn)
    return mark.generation if mark and instance and mark.instance_id == instance.instance_id else 0


def _await_runners(house: House, conn: Connection) -> None:
    if setting(conn, AWAITING_RUNNERS):
        waited = {runner.id for runner in reads.runners(conn) if runner.revoked_at is None}
        house.returning = Returning(until_s=house.clock.monotonic_s() + RETURN_S, runners=waited)


def _newest_event(conn: Connection) -> int:
    """Also when the newest have been removed with their runs."""
    return max(reads.newest_event_number(conn), reads.events_deleted_to(conn))
