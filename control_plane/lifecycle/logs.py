"""Verbs on the log index: segments, the seal, and what retention has removed."""

from __future__ import annotations

from functools import partial

from control_plane.domain.case import Case
from control_plane.domain.errors import ErrorCode, NotFound
from control_plane.domain.evidence import sealed
from control_plane.domain.ids import AttemptKey
from control_plane.domain.logs import LogSeal, LogSegment
from control_plane.lifecycle.house import House, load, store
from control_plane.storage import writes
from control_plane.storage.database import Connection


async def register_segment(house: House, key: AttemptKey, segment: LogSegment) -> None:
    """Keep the newest word about one segment of a log."""
    body = partial(writes.upsert_segment, key=key, segment=segment)
    await house.database.write(body, name="logs.register_segment")


async def seal_log(house: House, key: AttemptKey, seal: LogSeal) -> bool:
    """Mark that a log gets no more bytes, once: False if it was marked before.

    A run whose last log this is becomes settled in the same transaction. Raises NotFound ATTEMPT_NOT_FOUND.
    """

    def after(case: Case | None) -> None:
        if case is not None:
            house.told((case,))

    sealed = await house.database.write(partial(_seal, house, key, seal), name="logs.seal", after=after)
    return sealed is not None


async def log_deleted(house: House, key: AttemptKey) -> None:
    """Say that retention has removed a log's bytes: who reads it is told that it expired."""

    def body(connection: Connection) -> None:
        writes.mark_log_deleted(connection, key, house.clock.now())

    def after(_: None) -> None:
        house.watch.notify(f"run:{key.run_id}", f"log:{key.run_id}:{key.lease_epoch}")

    await house.database.write(body, name="logs.deleted", after=after)


def _seal(house: House, key: AttemptKey, seal: LogSeal, connection: Connection) -> Case | None:
    before = load(house, connection, key)
    if before is None or before.attempt is None:
        raise NotFound(ErrorCode.ATTEMPT_NOT_FOUND)
    if before.attempt.log_sealed_at is not None:
        return None
    now = house.clock.now()
    for segment in seal.segments:
        writes.upsert_segment(connection, key, segment)
    return store(connection, before, sealed(before, seal, now))
