"""Verbs on notifications: which are due, how an attempt ended, and sending one again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from control_plane.domain.errors import ErrorCode, NotFound
from control_plane.domain.ids import DeliveryId, ProjectId
from control_plane.domain.notification import (
    ERROR_CHARACTERS,
    TRIED_FOR_S,
    Delivery,
    DeliveryState,
    Outcome,
    wait_s,
)
from control_plane.domain.principal import Caller
from control_plane.lifecycle.house import House
from control_plane.lifecycle.notices import TOPIC
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

__all__ = ["TOPIC", "attempted", "due", "next_at", "redeliver", "secret_value", "the_delivery"]


async def due(
    house: House, *, limit: int, besides: Collection[DeliveryId], besides_targets: Collection[str]
) -> tuple[Delivery, ...]:
    """What is to be sent now, longest due first."""
    now = house.clock.now()
    query = partial(reads.due_deliveries, now=now, limit=limit, besides=besides, besides_targets=besides_targets)
    return await house.database.read(query)


async def next_at(house: House, after: datetime) -> datetime | None:
    """When the next one is due that is not due at `after`."""
    return await house.database.read(partial(reads.next_delivery_at, after=after))


async def secret_value(house: House, project_id: ProjectId, name: str) -> bytes | None:
    """The secret's value as it is now; None when there is none. Raises ValueError when it does not open."""

    def body(connection: Connection) -> bytes | None:
        for found in reads.sealed_secrets(connection, project_id, (name,)):
            return house.vault.open(project_id, name, found.secret.version, found.sealed)
        return None

    return await house.database.read(body)


async def attempted(house: House, delivery: Delivery, outcome: Outcome, first_wait_s: float) -> Delivery | None:
    """Keep how an attempt ended, and when the next one is; None: the row has gone, or was moved meanwhile."""

    def body(connection: Connection) -> Delivery | None:
        old = reads.delivery(connection, delivery.id)
        if old is None or old.attempts != delivery.attempts:
            return None
        new = _after(old, outcome, house.clock.now(), first_wait_s, house.clock.jitter())
        return new if writes.save_delivery(connection, old, new) else None

    return await house.database.write(body, name="notifications.attempted")


def _after(old: Delivery, outcome: Outcome, now: datetime, first_wait_s: float, jitter: float) -> Delivery:
    tried = replace(
        old,
        attempts=old.attempts + 1,
        last_attempt_at=now,
        response_status=outcome.status,
        error=outcome.error[:ERROR_CHARACTERS],
        next_attempt_at=None,
    )
    if outcome.ok:
        return replace(tried, state=DeliveryState.DELIVERED, delivered_at=now)
    again = now + timedelta(seconds=wait_s(tried.attempts, first_wait_s, jitter))
    if outcome.final or again > old.expires_at:
        return replace(tried, state=DeliveryState.FAILED)
    return replace(tried, next_attempt_at=again)


async def redeliver(house: House, delivery_id: DeliveryId) -> Delivery:
    """Send it again, delivered or not, under the same id; it is tried for another day. Raises NotFound."""

    def body(connection: Connection) -> Delivery:
        old = reads.delivery(connection, delivery_id)
        if old is None:
            raise NotFound(ErrorCode.DELIVERY_NOT_FOUND)
        now = house.clock.now()
        expires_at = now + timedelta(seconds=TRIED_FOR_S)
        new = replace(old, state=DeliveryState.PENDING, next_attempt_at=now, expires_at=expires_at)
        writes.save_delivery(connection, old, new)
        return new

    return await house.database.write(body, name="notifications.redeliver", after=lambda _: house.watch.notify(TOPIC))


async def the_delivery(house: House, caller: Caller, text: str) -> Delivery:
    """One of a task that the caller may change, or of its own run of a template.

    Raises NotFound DELIVERY_NOT_FOUND for all others.
    """

    def body(connection: Connection) -> Delivery:
        found = reads.delivery(connection, DeliveryId(text.strip().lower()))
        if found is None or not caller.principal.may_use(found.project_id):
            raise NotFound(ErrorCode.DELIVERY_NOT_FOUND)
        task = reads.task(connection, found.task_id) if found.task_id else None
        owner = found.created_by if not found.task_id else None if task is None else task.owner
        if not caller.principal.admin and owner != caller.principal.id:
            raise NotFound(ErrorCode.DELIVERY_NOT_FOUND)
        return found

    return await house.database.read(body)
