"""Cancel many runs at once: counted by a filter, confirmed by their number, cancelled some at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from control_plane.domain.case import Case
from control_plane.domain.errors import ErrorCode, FailedPrecondition, FieldViolation
from control_plane.domain.filters import EVERYTHING, Filter
from control_plane.domain.ids import PrincipalId, ProjectId, RunId
from control_plane.domain.principal import Caller
from control_plane.domain.run import RUN_ACTIVE
from control_plane.domain.run_rules import validate_cancel
from control_plane.domain.stops import CancelOrder
from control_plane.lifecycle.house import House, require_project
from control_plane.lifecycle.requests import refuse
from control_plane.lifecycle.runs import cancel_in
from control_plane.storage import reads
from control_plane.storage.database import Connection

# In one call; who has more active runs narrows the filter.
MOST = 10_000
RUNS_A_VERB = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyToCancel:
    """Which active runs, how, and how many the caller expects. With `dry_run` they are only counted."""

    matching: Filter
    order: CancelOrder
    # Whose runs: those that this principal sees; None: all.
    visible_to: PrincipalId | None = None
    dry_run: bool = False
    expected_count: int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The runs that matched, oldest first, and how many of them were cancelled."""

    run_ids: tuple[RunId, ...]
    count: int


async def cancel_many(house: House, caller: Caller, project_id: ProjectId, asked: ManyToCancel) -> Cancelled:
    """Each is cancelled as by itself; one that ends meanwhile is left out.

    Raises InvalidArgument, FailedPrecondition COUNT_DIFFERS, LIMIT_REACHED: then nothing was cancelled.
    """
    require_project(caller, project_id)
    refuse(*validate_cancel(asked.order), *_violations(asked))
    wanted = partial(
        reads.active_runs_matching,
        project_id=project_id,
        matching=asked.matching,
        visible_to=asked.visible_to,
        limit=MOST + 1,
    )
    run_ids = await house.database.read(wanted)
    if len(run_ids) > MOST:
        text = f"More than {MOST} active runs match: narrow the filter, and cancel them in parts."
        raise FailedPrecondition(ErrorCode.LIMIT_REACHED, text)
    if asked.dry_run:
        return Cancelled(run_ids=run_ids, count=0)
    if len(run_ids) != asked.expected_count:
        raise FailedPrecondition(
            ErrorCode.COUNT_DIFFERS,
            f"{len(run_ids)} active runs match, not {asked.expected_count}. Nothing was cancelled.",
            metadata={"matched": str(len(run_ids))},
        )
    order = replace(asked.order, actor=caller.principal.name)

    def after(cases: tuple[Case, ...]) -> None:
        house.told(cases)

    count = 0
    for start in range(0, len(run_ids), RUNS_A_VERB):
        body = partial(_cancel_some, house, run_ids[start : start + RUNS_A_VERB], order, asked.force)
        done = await house.database.write(body, name="cancel_many", after=after)
        count += len(done)
    return Cancelled(run_ids=run_ids, count=count)


def _violations(asked: ManyToCancel) -> list[FieldViolation]:
    found = []
    if asked.matching == EVERYTHING:
        hint = "must say which runs, such as: state = QUEUED"
        found.append(FieldViolation(field="filter", description=hint))
    if not asked.dry_run and asked.expected_count is None:
        found.append(FieldViolation(field="expected_count", description="must be given unless dry_run is set"))
    if asked.expected_count is not None and asked.expected_count < 0:
        found.append(FieldViolation(field="expected_count", description="must not be negative"))
    return found


def _cancel_some(
    house: House, run_ids: Sequence[RunId], order: CancelOrder, force: bool, connection: Connection
) -> tuple[Case, ...]:
    runs = [reads.run(connection, run_id) for run_id in run_ids]
    active = [run.id for run in runs if run is not None and run.state in RUN_ACTIVE]
    return tuple(cancel_in(house, connection, run_id, order, force=force) for run_id in active)
