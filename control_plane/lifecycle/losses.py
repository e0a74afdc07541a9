"""The verb that gives up what a runner holds, on an operator's word."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from control_plane.domain.case import Case
from control_plane.domain.errors import ErrorCode, FailedPrecondition, NotFound
from control_plane.domain.ids import RunId, RunnerId
from control_plane.domain.limits import CANCEL_NOTE_BYTES
from control_plane.domain.marks import LossMark, mark_lost
from control_plane.domain.names import check_text
from control_plane.domain.principal import Caller
from control_plane.domain.run import RunState
from control_plane.domain.runner import Runner
from control_plane.lifecycle.house import House, load, store
from control_plane.lifecycle.requests import refuse
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

_ATTEMPTS_A_VERB = 32
_STILL_THERE = "End its runs with `banksman run cancel`, or take it out of service with `banksman runner drain`."


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkLost:
    """What an operator says. `force`: also if the runner is connected; never together with `host_is_dead`."""

    note: str = ""
    host_is_dead: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What became of the runner's runs."""

    lost: tuple[RunId, ...] = ()
    queued: tuple[RunId, ...] = ()
    cancelled: tuple[RunId, ...] = ()

    def and_also(self, cases: tuple[Case, ...]) -> Marked:
        def those(*states: RunState) -> tuple[RunId, ...]:
            return tuple(case.run.id for case in cases if case.run.state in states)

        return replace(
            self,
            lost=self.lost + those(RunState.LOST, RunState.FAILED),
            queued=self.queued + those(RunState.QUEUED),
            cancelled=self.cancelled + those(RunState.CANCELLED),
        )


async def mark_runner_lost(house: House, caller: Caller, runner_id: RunnerId, order: MarkLost) -> Marked:
    """Every live attempt of the runner is given up, a bounded number in one transaction; again is no error.

    A dead host has no process of a run that it once listed under an unknown fence: such runs are offered again.

    Raises NotFound, InvalidArgument, and FailedPrecondition RUNNER_CONNECTED: unless forced, and always when a host
    whose agent answers is said to be dead. A runner that comes back meanwhile keeps what was not marked yet.
    """
    refuse(*check_text(order.note, "note", CANCEL_NOTE_BYTES))
    mark = LossMark(actor=caller.principal.name, note=order.note, host_is_dead=order.host_is_dead)
    marked = Marked()
    while True:
        body = partial(_mark_some, house, runner_id, order, mark)
        after = partial(_tell, house, runner_id, order)
        cases = await house.database.write(body, name="runners.mark_lost", after=after)
        if not cases:
            return marked
        marked = marked.and_also(cases)


def _mark_some(
    house: House, runner_id: RunnerId, order: MarkLost, mark: LossMark, connection: Connection
) -> tuple[Case, ...]:
    runner = reads.runner(connection, runner_id)
    if runner is None:
        raise NotFound(ErrorCode.RUNNER_NOT_FOUND)
    _require_away(runner, order)
    if order.host_is_dead:
        writes.store_withheld(connection, runner_id=runner_id, runs=(), at=house.clock.now())
    cases: list[Case] = []
    for attempt in reads.live_attempts(connection, runner_id):
        before = load(house, connection, attempt.key)
        after = None if before is None else mark_lost(before, mark, house.instant())
        if before is not None and after is not None and after != before:
            cases.append(store(connection, before, after))
        if len(cases) >= _ATTEMPTS_A_VERB:
            break
    return tuple(cases)


def _tell(house: House, runner_id: RunnerId, order: MarkLost, cases: tuple[Case, ...]) -> None:
    """Before anything is told of what was committed later: a runner that comes back withholds anew what it lists."""
    house.told(cases)
    if order.host_is_dead and house.withheld.pop(runner_id, frozenset()):
        house.watch.notify("queue")


def _require_away(runner: Runner, order: MarkLost) -> None:
    if not runner.connected or (order.force and not order.host_is_dead):
        return
    said = "so its host is not dead" if order.host_is_dead else "so what it holds can be stopped for certain"
    raise FailedPrecondition(
        ErrorCode.RUNNER_CONNECTED, f"Runner {runner.name} is connected, {said}.", hint=_STILL_THERE
    )
