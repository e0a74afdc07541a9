"""Waiting for a run, and watching runs: the change rows are read again at each wake-up, so none is missed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from banksman.v1 import run_pb2

from control_plane.api import resume
from control_plane.api.convert import RUN_EVENT
from control_plane.api.views import Views
from control_plane.auth.visibility import sees_run, tasks_of
from control_plane.domain.errors import ErrorCode, NotFound, OutOfRange
from control_plane.domain.history import RunEventRecord
from control_plane.domain.ids import RunId
from control_plane.domain.principal import Caller
from control_plane.domain.run import RUN_ACTIVE, RUN_TERMINAL, Run
from control_plane.lifecycle.house import House
from control_plane.storage import reads
from control_plane.storage.database import Connection
from control_plane.storage.reads import EventFilter, PageRequest, RunFilter

LONGEST_WAIT_S = 60.0
# A lost wake-up costs this much.
POLL_S = 15.0
BATCH = 200
# Of the present state of a project: its newest active runs.
MOST_PRESENT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    events: tuple[RunEventRecord, ...]
    runs: dict[RunId, Run]
    hidden: frozenset[RunId]
    # The one run that is watched, as it is now.
    moved: Run | None
    # Up to here nothing else concerns this watch.
    number: int


class Watching:
    """Follows runs for readers."""

    def __init__(self, house: House, views: Views) -> None:
        self._house, self._views = house, views

    async def wait(self, run_id: RunId, *, settled: bool, timeout_s: float) -> None:
        """Return when the run is finished (or settled), or when the time is up. Raises NotFound once it is gone."""
        clock = self._house.clock
        end_s = clock.monotonic_s() + min(timeout_s, LONGEST_WAIT_S)
        with self._house.watch.subscribe(f"run:{run_id}") as wakeups:
            while True:
                run = await self._house.database.read(partial(reads.run, run_id=run_id))
                if run is None:
                    raise NotFound(ErrorCode.RUN_NOT_FOUND, "The run was deleted.")
                if run.settled_at is not None if settled else run.state in RUN_TERMINAL:
                    return
                left_s = end_s - clock.monotonic_s()
                if left_s <= 0:
                    return
                await wakeups.wait(min(left_s, POLL_S))

    async def follow(self, wanted: EventFilter, token: str, caller: Caller) -> AsyncIterator[run_pb2.WatchRunsResponse]:
        """Changes behind the token, then new ones as they are committed, for ever; of runs that the caller sees.

        Raises InvalidArgument RESUME_TOKEN_INVALID, OutOfRange RESUME_TOKEN_EXPIRED.
        """
        topic = "runs" if wanted.run_id is None else f"run:{wanted.run_id}"
        with self._house.watch.subscribe(topic) as wakeups:
            number, progress = resume.unseal(wanted, token) if token else -1, None
            if number < 0:
                number, present = await self._house.database.read(partial(_present, wanted=wanted, caller=caller))
                for run in present:
                    # Only a watch of one run looks at it again.
                    progress = run.progress
                    token = resume.seal(wanted, number)
                    yield run_pb2.WatchRunsResponse(run=self._views.brief(run), resume_token=token)
            while True:
                batch = await self._house.database.read(partial(_changes, wanted=wanted, number=number, caller=caller))
                for event in batch.events:
                    number = event.number
                    if event.run_id not in batch.hidden:
                        yield self._change(wanted, event, batch.runs.get(event.run_id))
                if batch.moved is not None and batch.moved.progress != progress:
                    progress = batch.moved.progress
                    if not batch.events:
                        # Progress is no change row: it comes by itself, under the token that was there.
                        yield run_pb2.WatchRunsResponse(
                            run=self._views.brief(batch.moved), resume_token=resume.seal(wanted, number)
                        )
                # A watch of something quiet must not fall behind what is kept.
                number = max(number, batch.number)
                if len(batch.events) < BATCH:
                    await wakeups.wait(POLL_S)

    def _change(self, wanted: EventFilter, event: RunEventRecord, run: Run | None) -> run_pb2.WatchRunsResponse:
        return run_pb2.WatchRunsResponse(
            run=None if run is None else self._views.brief(run),
            event=RUN_EVENT.encode(event),
            resume_token=resume.seal(wanted, event.number),
        )


def _present(connection: Connection, wanted: EventFilter, caller: Caller) -> tuple[int, tuple[Run, ...]]:
    """The newest change, and the runs as they are behind it, from one snapshot."""
    number = reads.newest_event_number(connection)
    if wanted.run_id is not None:
        run = reads.run(connection, wanted.run_id)
        return number, () if run is None else (run,)
    active = RunFilter(
        states=tuple(sorted(RUN_ACTIVE)),
        task_id=wanted.task_id,
        matching=wanted.matching,
        visible_to=tasks_of(caller),
    )
    page = reads.list_runs(connection, wanted.project_id, active, PageRequest(page_size=MOST_PRESENT))
    return number, page.items


def _changes(connection: Connection, wanted: EventFilter, number: int, caller: Caller) -> _Batch:
    if number < reads.events_deleted_to(connection):
        raise OutOfRange(ErrorCode.RESUME_TOKEN_EXPIRED, hint="Start the watch again without a resume token.")
    events = reads.events_after(connection, wanted, number, BATCH)
    run_ids = {event.run_id for event in events}
    # Of a deleted run there is nothing to show, but who saw it is told that it was deleted.
    rows = {run_id: reads.run_or_tombstone(connection, run_id) for run_id in run_ids}
    hidden = {run_id for run_id, row in rows.items() if row is None or not sees_run(connection, caller, row)}
    shown = {run_id: reads.run(connection, run_id) for run_id in run_ids - hidden}
    known = {run_id: run for run_id, run in shown.items() if run is not None}
    # What is gone cannot be judged any more: only who sees everything is told of it.
    moved = None if wanted.run_id is None else known.get(wanted.run_id) or reads.run(connection, wanted.run_id)
    unseen = frozenset[RunId]() if caller.principal.admin else frozenset(hidden)
    unseen |= frozenset(known) - reads.matching_runs(connection, known, wanted.matching)
    whole = len(events) < BATCH
    newest = reads.newest_event_number(connection) if whole else events[-1].number
    return _Batch(events=events, runs=known, hidden=unseen, moved=moved, number=newest)
