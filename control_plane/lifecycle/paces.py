"""Intervals keep their pace when the wall clock was set back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from control_plane.domain.schedule import next_fire_at
from control_plane.lifecycle.house import House
from control_plane.lifecycle.requests import require_saved
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection
from control_plane.telemetry import logger

log = logger("schedules")

A_VERB = 50


async def keep_pace(house: House) -> int:
    """Move intervals whose next instant is more than one interval away, which only a clock set back can make it.

    Without that, an interval of a minute would be silent for the hour that comes a second time. Its instants of that
    hour have fired, and none fires twice: from now on it counts from a microsecond later. Rules that name local times
    (cron, once) stay silent, as those times have had their firing. How many were moved.
    """
    if not await house.database.read(partial(reads.schedules_far_ahead, now=house.clock.now(), limit=1)):
        return 0
    moved = 0
    while part := await house.database.write(partial(_move_some, house), name="schedules.keep_pace"):
        moved += part
    if moved:
        log.info("intervals count anew after the clock was set back", schedules=moved)
        house.watch.notify("schedules")
    return moved


def _move_some(house: House, connection: Connection) -> int:
    now = house.clock.now()
    found = reads.schedules_far_ahead(connection, now, A_VERB)
    for old in found:
        new = replace(old, phase_us=old.phase_us + 1)
        new = replace(new, next_fire_at=next_fire_at(new, after=now))
        require_saved(writes.save_schedule(connection, old, new))
    return len(found)
