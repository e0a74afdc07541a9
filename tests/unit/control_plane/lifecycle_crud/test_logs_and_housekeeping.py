"""Log marks and housekeeping: a seal is set once and settles its run, what is old goes, what is needed stays."""

from __future__ import annotations

from functools import partial

import pytest

from control_plane.domain.attempt import Attempt
from control_plane.domain.errors import ErrorCode, NotFound
from control_plane.domain.history import RunEventType
from control_plane.domain.ids import AttemptKey, Holder
from control_plane.domain.logs import LogSeal, LogSegment
from control_plane.domain.placement import Match
from control_plane.domain.reason import Reason
from control_plane.domain.run import Run, RunState
from control_plane.domain.session import AttemptExited, AttemptStarted, ExitOutcome, ExitRecord, Hello, OfferReply
from control_plane.lifecycle import (
    attempts,
    housekeeping,
    logs,
    projects,
    purges,
    reports,
    retention,
    runners,
    runs,
    tasks,
)
from control_plane.lifecycle.housekeeping import Keep
from control_plane.lifecycle.projects import NewProject
from control_plane.lifecycle.runners import Enrolment, NewJoinToken
from control_plane.lifecycle.runs import NewRun
from control_plane.lifecycle.tasks import NewTask
from control_plane.storage import reads
from control_plane.storage.database import Connection
from tests.unit.control_plane.lifecycle_crud.conftest import SPEC, Stage

HELLO = Hello(protocol_min=1, protocol_max=1, slots=8, state_directory_id="dir")
SEGMENT = LogSegment(index=0, first_offset=0, end_offset=3, first_at=None, newlines=1, stored_bytes=20)
SEAL = LogSeal(bytes=3, digest="abc", complete=True, segments=(SEGMENT,))
DAY_S = 86_400.0


async def connected(stage: Stage) -> Holder:
    await runners.create_join_token(stage.house, stage.caller, NewJoinToken(secret_digest="0" * 64))
    asked = Enrolment(join_digest="0" * 64, name="host", public_key=bytes(32))
    runner = await runners.enrol(stage.house, asked)
    await runners.connect(stage.house, runner.id, HELLO, credential_generation=runner.credential_generation)
    return Holder(runner_id=runner.id, state_directory_id="dir")


async def started(stage: Stage, holder: Holder) -> AttemptKey:
    run = await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, spec=SPEC))
    (key,) = await attempts.offer(stage.house, [Match(run_id=run.id, runner_id=holder.runner_id)])
    await reports.offer_reply(stage.house, holder, OfferReply(key=key, accept=True))
    await reports.attempt_started(stage.house, holder, AttemptStarted(key=key, pid=7, started_at=stage.clock.now()))
    return key


async def ended(stage: Stage, holder: Holder) -> AttemptKey:
    key = await started(stage, holder)
    record = ExitRecord(
        outcome=ExitOutcome.ENDED_WELL, reason=Reason.EXIT_ZERO, exit_code=0, final_offset=3, digest="abc"
    )
    await reports.attempt_exited(stage.house, holder, AttemptExited(key=key, exit=record))
    return key


async def look(stage: Stage, key: AttemptKey) -> tuple[Run, Attempt]:
    run = await stage.house.database.read(partial(reads.run, run_id=key.run_id))
    attempt = await stage.house.database.read(partial(reads.attempt, key=key))
    assert run is not None
    assert attempt is not None
    return run, attempt


async def event_types(stage: Stage, key: AttemptKey) -> list[RunEventType]:
    page = await stage.house.database.read(partial(reads.list_events, run_id=key.run_id, request=reads.PageRequest()))
    return [event.type for event in page.items]


async def test_the_last_seal_settles_the_run(stage: Stage) -> None:
    key = await ended(stage, await connected(stage))
    run, attempt = await look(stage, key)
    assert (run.state, run.settled_at, attempt.log_sealed_at) == (RunState.SUCCEEDED, None, None)
    stage.clock.advance(2)
    with stage.house.watch.subscribe(f"run:{key.run_id}") as wakeups:
        assert await logs.seal_log(stage.house, key, SEAL)
        assert await wakeups.wait(1)
    run, attempt = await look(stage, key)
    assert run.settled_at == attempt.log_sealed_at == stage.clock.now()
    assert (attempt.log_bytes, attempt.log_digest, attempt.log_complete) == (3, "abc", True)
    assert (await event_types(stage, key))[-1] is RunEventType.SETTLED
    assert await stage.house.database.read(partial(reads.log_segments, key=key)) == (SEGMENT,)


async def test_a_seal_is_set_once(stage: Stage) -> None:
    key = await ended(stage, await connected(stage))
    assert await logs.seal_log(stage.house, key, SEAL)
    before = await look(stage, key), await event_types(stage, key)
    stage.clock.advance(1)
    assert not await logs.seal_log(stage.house, key, LogSeal(bytes=9, digest="x", complete=False))
    assert (await look(stage, key), await event_types(stage, key)) == before


async def test_a_log_may_be_sealed_before_its_run_is_over(stage: Stage) -> None:
    holder = await connected(stage)
    key = await started(stage, holder)
    assert await logs.seal_log(stage.house, key, LogSeal(bytes=1, digest="", complete=False, note="the host is gone"))
    run, attempt = await look(stage, key)
    assert (run.state, run.settled_at, attempt.log_complete) == (RunState.RUNNING, None, False)
    assert (await event_types(stage, key))[-1] is RunEventType.EVIDENCE_ADDED
    record = ExitRecord(outcome=ExitOutcome.ENDED_WELL, reason=Reason.EXIT_ZERO, exit_code=0)
    await reports.attempt_exited(stage.house, holder, AttemptExited(key=key, exit=record))
    run, _ = await look(stage, key)
    assert run.settled_at is not None


async def test_the_log_of_nothing_is_not_sealed(stage: Stage) -> None:
    run = await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, spec=SPEC))
    with pytest.raises(NotFound) as caught:
        await logs.seal_log(stage.house, AttemptKey(run_id=run.id, lease_epoch=1), SEAL)
    assert caught.value.code is ErrorCode.ATTEMPT_NOT_FOUND


async def test_segments_and_deleted_logs(stage: Stage) -> None:
    key = await ended(stage, await connected(stage))
    await logs.register_segment(stage.house, key, SEGMENT)
    assert await stage.house.database.read(reads.log_bytes_total) == 20
    await logs.seal_log(stage.house, key, SEAL)
    await logs.log_deleted(stage.house, key)
    view = await stage.house.database.read(partial(reads.log_view, run_id=key.run_id))
    assert view is not None
    assert view.attempts[0].deleted
    assert await stage.house.database.read(reads.log_bytes_total) == 0
    await logs.log_deleted(stage.house, key)


async def test_the_first_start_gives_an_identity_that_stays(stage: Stage) -> None:
    first = await stage.house.database.read(reads.instance)
    assert first is not None
    assert await housekeeping.prepare(stage.house) == first
    assert first.generation == await stage.house.database.read(reads.generation) == 0


async def test_a_start_goes_on_with_the_delete_of_a_task(stage: Stage) -> None:
    """The server ended after the task was marked and before all of its runs were cancelled."""
    task = await tasks.create(stage.house, stage.caller, NewTask(project_id=stage.default.id, name="build", spec=SPEC))
    run = await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, task_id=task.id))

    def mark(conn: Connection) -> None:
        conn.exec_driver_sql("UPDATE tasks SET deleted_at = 1")

    await stage.house.database.write(mark)
    await housekeeping.prepare(stage.house)
    found = await stage.house.database.read(partial(reads.run, run_id=run.id))
    assert found is not None
    assert (found.state, found.reason) == (RunState.CANCELLED, Reason.TASK_DELETED)


async def test_a_sweep_removes_what_is_old_and_nothing_else(stage: Stage) -> None:
    holder = await connected(stage)
    old = await ended(stage, holder)
    await logs.seal_log(stage.house, old, SEAL)
    with_log = await ended(stage, holder)
    await logs.seal_log(stage.house, with_log, SEAL)
    await logs.log_deleted(stage.house, old)
    running = await started(stage, holder)
    await projects.create(stage.house, stage.asking("r"), NewProject(name="web"))
    task = await tasks.create(stage.house, stage.caller, NewTask(project_id=stage.default.id, name="build", spec=SPEC))
    await tasks.delete(stage.house, stage.caller, task.id)
    keep = Keep(request_ids_s=DAY_S, runs_s=30 * DAY_S, join_tokens_s=10 * DAY_S, firings_s=DAY_S, tasks_s=20 * DAY_S)
    stage.clock.advance(29 * DAY_S)
    swept = await housekeeping.sweep(stage.house, keep)
    assert (swept.request_ids, swept.runs, swept.join_tokens, swept.tasks, swept.specs) == (1, 0, 1, 1, 1)
    stage.clock.advance(2 * DAY_S)
    young = await ended(stage, holder)
    swept = await housekeeping.sweep(stage.house, keep)
    assert (swept.request_ids, swept.runs, swept.specs) == (0, 2, 0)
    for key, there in ((old, False), (with_log, False), (running, True), (young, True)):
        found = await stage.house.database.read(partial(reads.run, run_id=key.run_id))
        assert (found is not None) is there
    assert await purges.waiting(stage.house) == (old.run_id, with_log.run_id)


async def test_a_long_backlog_goes_in_short_verbs(stage: Stage) -> None:
    for number in range(3 * retention.RUNS_A_VERB + 1):
        run = await runs.create(stage.house, stage.caller, NewRun(project_id=stage.default.id, spec=SPEC))
        await runs.cancel(stage.house, stage.caller, run.id, runs.CancelOrder(note=str(number)))
    stage.clock.advance(100 * DAY_S)
    swept = await housekeeping.sweep(stage.house, Keep())
    assert swept.runs == 3 * retention.RUNS_A_VERB + 1
    assert stage.house.database.statistics().by_name["housekeeping.runs"] == 4
    status = await stage.house.database.read(reads.status_counts)
    assert (status.runs_queued, status.runs_active) == (0, 0)
