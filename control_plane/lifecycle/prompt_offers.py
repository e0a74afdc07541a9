"""Offers in the transaction that queued a run or freed a slot: no round of dispatch, and no commit of their own.

Only in a small house, and only what is plain; a round of dispatch looks at everything else.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from control_plane.domain.case import Case
from control_plane.domain.ids import RunId, RunnerId
from control_plane.domain.placement import place
from control_plane.lifecycle import queue
from control_plane.lifecycle.attempts import offer_in
from control_plane.lifecycle.house import House
from control_plane.lifecycle.placements import as_queued, as_view
from control_plane.storage import reads
from control_plane.storage.database import Connection

# The writer's thread has other things to do: so much is looked at there, and no more.
MOST_RUNNERS = 64
MOST_LANES = 4
MOST_RUNS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What was offered, and why the others that were looked at wait.

    `full`: no slot is free any more; `empty`: no run is queued any more, not even for its time or its turn.
    """

    cases: tuple[Case, ...]
    waiting: Mapping[RunId, str]
    # As in a placement.
    shut: Mapping[str, str]
    full: bool
    empty: bool

    @property
    def complete(self) -> bool:
        """A round of dispatch would find nothing to do: only an event can change anything."""
        return self.full or self.empty


def offer_at_once(
    house: House, ready: Container[RunnerId], draining: Container[RunnerId], conn: Connection
) -> Prompt | None:
    """Place and offer on what the transaction sees, with a round's own rules. None: a round of dispatch must look."""
    if house.returning is not None or house.withheld:
        return None
    now = house.clock.now()
    front = queue.short_front(conn, now, MOST_RUNS, MOST_LANES)
    if front is None:
        return None
    if front.empty:
        return Prompt(cases=(), waiting={}, shut={}, full=False, empty=True)
    runners = reads.few_runners(conn, MOST_RUNNERS)
    if runners is None:
        return None
    views = [as_view(runner, ready, draining) for runner in runners]
    queued = [as_queued(house, conn, run, "", front) for run in front.runs]
    now_s, turns = house.clock.monotonic_s(), house.turns.known()
    placement = place(queued, views, house.refusals, now, now_s, house.timing, front.taken, turns)
    # As in a round: one that holds more than it has slots takes nothing from the others' count.
    free = {view.runner_id: max(0, view.free) for view in views if view.connected and not view.draining}
    cases = offer_in(house, conn, placement.offers, free)
    left = placement.waiting or front.more or len(cases) < len(placement.offers)
    return Prompt(
        cases=cases,
        waiting=placement.waiting,
        shut=front.shut,
        full=not any(free.values()),
        empty=not left and queue.is_empty(conn),
    )
