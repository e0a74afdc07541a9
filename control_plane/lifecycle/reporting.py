"""Verbs on reports of runs: which wait for one, what is told, and that it is made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from control_plane.domain.case import Case, concluded
from control_plane.domain.history import RunEventType
from control_plane.domain.ids import ReportId, RunId
from control_plane.domain.report import ARTIFACTS_SHOWN, EVENTS_SHOWN, REPORT_BYTES, Rendered, Report, RunFacts
from control_plane.domain.run import Run
from control_plane.lifecycle.house import House, load_newest, store
from control_plane.lifecycle.notices import REPORTS as TOPIC
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection

__all__ = ["RUNS_AT_ONCE", "TOPIC", "due", "facts", "made"]

RUNS_AT_ONCE = 20


async def due(house: House, besides: frozenset[RunId] = frozenset()) -> tuple[RunId, ...]:
    """Some runs that are handed in and whose report is not made, longest waiting first."""
    return await house.database.read(partial(reads.reports_due, besides=besides, limit=RUNS_AT_ONCE))


async def facts(house: House, run_id: RunId) -> RunFacts | None:
    """What there is to tell about a run; None when it was deleted meanwhile."""

    def body(connection: Connection) -> RunFacts | None:
        run = reads.run(connection, run_id)
        if run is None:
            return None
        wanted = reads.EventFilter(project_id=run.project_id, run_id=run_id)
        events = reads.events_after(connection, wanted, 0, EVENTS_SHOWN + 1)
        project = reads.project(connection, run.project_id)
        creator = reads.principal(connection, run.created_by)
        artifacts, artifacts_in_all = reads.artifacts_of_run(connection, run_id, ARTIFACTS_SHOWN)
        return RunFacts(
            run=run,
            spec=house.spec(connection, run.spec_sha256),
            project_name="" if project is None else project.name,
            creator_name="" if creator is None else creator.name,
            attempts=tuple(reversed(reads.attempts(connection, run_id))),
            events=events[:EVENTS_SHOWN],
            events_left_out=max(0, len(events) - EVENTS_SHOWN),
            artifacts=artifacts,
            artifacts_left_out=artifacts_in_all - len(artifacts),
        )

    return await house.database.read(body)


async def made(house: House, told: Run, rendered: Sequence[Rendered]) -> None:
    """Keep what was made of the run as it was then, and settle it; what could not be made is an event of it.

    A run that got something new meanwhile (a late exit whose artifacts are still to come) keeps waiting for a report.
    """

    def after(case: Case | None) -> None:
        if case is not None:
            house.told((case,))

    await house.database.write(partial(_made, house, told, rendered), name="reports.made", after=after)


def _made(house: House, told: Run, rendered: Sequence[Rendered], connection: Connection) -> Case | None:
    before = load_newest(house, connection, told.id)
    if before is None or before.run.report_due_at is None or before.run.report_due_at != told.report_due_at:
        return None
    now = house.clock.now()
    case = replace(before, run=replace(before.run, report_formats=(), report_due_at=None))
    for each in rendered:
        why = each.error
        if not why and len(each.body) > REPORT_BYTES:
            why = f"it has {len(each.body)} bytes, more than {REPORT_BYTES}"
        if why:
            note = f"The report as {each.format} could not be made: {why}"
            case = case.record(RunEventType.EVIDENCE_ADDED, now, note=note)
            continue
        report = Report(
            id=ReportId(house.clock.new_id()),
            project_id=case.run.project_id,
            created_by=case.run.created_by,
            created_at=now,
            run_id=told.id,
            format=each.format,
            size_bytes=len(each.body),
            sha256=hashlib.sha256(each.body).hexdigest(),
        )
        writes.insert_report(connection, report, each.body)
    return store(connection, before, concluded(case, now))
