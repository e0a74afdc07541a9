"""Limits on concurrent runs, inside a transaction of the caller's: who may be born, and who may be offered."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.domain.case import Case
from control_plane.domain.concurrency import OnLimit, Place, lane_of, places_of, project_place, waits_for
from control_plane.domain.errors import ErrorCode, FailedPrecondition
from control_plane.domain.ids import ProjectId, RunId, TaskId
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run, RunState
from control_plane.domain.spec import RunSpec
from control_plane.domain.stops import CancelOrder
from control_plane.domain.stops import cancel as decide_cancel
from control_plane.domain.variables import VariableValue
from control_plane.lifecycle.house import House, load_newest, store
from control_plane.storage import reads
from control_plane.storage.database import Connection

# One new run supersedes so many older ones at most.
MOST_SUPERSEDED = 64
_REFUSING = (OnLimit.REJECT, OnLimit.DROP_NEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """How a run may be born. `note`: it is born SKIPPED, and this is why."""

    places: tuple[Place, ...] = ()
    lane: str = ""
    note: str = ""
    superseded: tuple[Case, ...] = ()


def places_for(
    project_id: ProjectId,
    task_id: TaskId | None,
    task_name: str,
    spec: RunSpec,
    variables: tuple[VariableValue, ...] | None,
) -> tuple[Place, ...]:
    """The places that a run needs under the limits of its spec; sensitive variables stay as they are written."""
    if not spec.concurrency:
        return ()
    values = None if variables is None else {each.name: each.value for each in variables if not each.sensitive}
    return places_of(spec.concurrency, project_id, task_id, task_name, values)


def admit(
    house: House, conn: Connection, project_id: ProjectId, places: tuple[Place, ...], *, fires: bool
) -> Admission:
    """Whether a run that needs these places may be born. `fires`: nobody hears a refusal, so it is born SKIPPED.

    Raises FailedPrecondition LIMIT_REACHED, naming the oldest run that counts.
    """
    whole = project_place(project_id, reads.project_limit(conn, project_id))
    lane = lane_of(project_id, places)
    wanted = places if whole is None else (whole, *places)
    for place in wanted:
        if place.on_limit not in _REFUSING:
            continue
        active = reads.active(conn, place, place.limit)
        if len(active) < place.limit:
            continue
        if place.on_limit is OnLimit.REJECT and not fires:
            raise _refused(place, active[0])
        return Admission(places=places, lane=lane, note=_reached(place, active[0]))
    superseded = tuple(
        case for place in wanted if place.on_limit is OnLimit.CANCEL_RUNNING for case in _supersede(house, conn, place)
    )
    return Admission(places=places, lane=lane, superseded=superseded)


def _reached(place: Place, run_id: RunId) -> str:
    held = f"run {run_id} holds it" if place.limit == 1 else f"run {run_id} is the oldest of them"
    return f"The limit of {place.limit} for {place.name} is reached: {held}."


def _refused(place: Place, run_id: RunId) -> FailedPrecondition:
    metadata = {"limit": str(place.limit), "limit_of": place.name, "run": run_id}
    hint = f"banksman run get {run_id}"
    return FailedPrecondition(ErrorCode.LIMIT_REACHED, _reached(place, run_id), metadata=metadata, hint=hint)


def _supersede(house: House, conn: Connection, place: Place) -> list[Case]:
    """Cancels the oldest runs of the group, so that one place gets free for the run that is to be born."""
    cases = []
    for run_id in reads.active(conn, place, place.limit + MOST_SUPERSEDED):
        before = load_newest(house, conn, run_id)
        if before is not None and before.run.state is not RunState.CANCELLING:
            cases.append(before)
    order = CancelOrder(reason=Reason.SUPERSEDED, note=f"A newer run takes its place under the limit of {place.name}.")
    now = house.clock.now()
    old = cases[: max(0, len(cases) - place.limit + 1)]
    return [store(conn, before, decide_cancel(before, order, now)) for before in old]


def waiting_for(conn: Connection, run: Run) -> str:
    """Why a limit keeps a queued run from being offered now; empty when it has a place under each."""
    whole = project_place(run.project_id, reads.project_limit(conn, run.project_id))
    for place in run.places if whole is None else (whole, *run.places):
        taken = reads.held(conn, place)
        if taken.count >= place.limit:
            return waits_for(place, taken)
    return ""
