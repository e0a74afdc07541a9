"""Runs, attempts and their history: what goes in comes out, and nothing moves unless it is as it was read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.exc import IntegrityError

from control_plane.domain.attempt import AttemptState
from control_plane.domain.history import RunEventType
from control_plane.domain.ids import AttemptKey, PrincipalId, ProjectId, RunId, TaskId
from control_plane.domain.run import Run, RunState
from control_plane.domain.runner import Runner
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection, Database
from tests.contract.storage_things import PROJECT_ID, SPEC, SPEC_SHA256, T0, USER_ID, Things, key, later


async def insert(database: Database, *runs: Run) -> None:
    def body(conn: Connection) -> None:
        for run in runs:
            writes.insert_run(conn, run)

    await database.write(body)


async def stored(database: Database, run: Run) -> Run:
    found = await database.read(partial(reads.run, run_id=run.id))
    assert found is not None
    return found


async def test_every_field_of_a_run_comes_back(database: Database, things: Things) -> None:
    minimal, full = things.run(), things.full_run()
    await insert(database, minimal, full)
    assert await stored(database, minimal) == minimal
    assert await stored(database, full) == full


async def test_every_field_of_an_attempt_comes_back(database: Database, things: Things) -> None:
    run, runner = things.run(), things.runner()
    minimal, full = things.attempt(run, runner), things.full_attempt(run, runner)

    def body(conn: Connection) -> None:
        writes.insert_runner(conn, runner, created_by=USER_ID)
        writes.insert_run(conn, run)
        writes.insert_attempt(conn, minimal)
        writes.insert_attempt(conn, full)

    await database.write(body)
    assert await database.read(partial(reads.attempt, key=key(full))) == full
    assert await database.read(partial(reads.attempts, run_id=run.id)) == (full, minimal)


async def test_what_does_not_exist_is_none(database: Database, things: Things) -> None:
    nobody = RunId("none")
    assert await database.read(partial(reads.run, run_id=nobody)) is None
    assert await database.read(partial(reads.attempt, key=AttemptKey(run_id=nobody, lease_epoch=1))) is None
    assert await database.read(partial(reads.attempts, run_id=nobody)) == ()
    assert await database.read(partial(reads.spec_bytes, sha256="none")) is None
    assert await database.read(partial(reads.spec_bytes, sha256=SPEC_SHA256)) == SPEC


async def test_a_run_moves_only_from_the_state_and_epoch_that_were_read(database: Database, things: Things) -> None:
    queued = things.run()
    await insert(database, queued)
    assigned = replace(queued, state=RunState.ASSIGNED, lease_epoch=1)
    assert await database.write(partial(writes.save_run, old=queued, new=assigned))
    cancelled = replace(queued, state=RunState.CANCELLED)
    assert not await database.write(partial(writes.save_run, old=queued, new=cancelled))
    stale = replace(assigned, lease_epoch=7)
    assert not await database.write(partial(writes.save_run, old=stale, new=replace(stale, error_message="x")))
    assert await stored(database, queued) == assigned


async def test_only_what_differs_is_written(database: Database, things: Things) -> None:
    run = things.run()
    await insert(database, run)
    noted = replace(run, error_message="a")
    assert await database.write(partial(writes.save_run, old=run, new=noted))
    # Another writer, who read the run before, changes another field: the first change stays.
    assert await database.write(partial(writes.save_run, old=run, new=replace(run, priority=5)))
    assert await stored(database, run) == replace(noted, priority=5)
    assert await database.write(partial(writes.save_run, old=noted, new=noted))


async def test_an_attempt_moves_only_from_the_state_that_was_read(database: Database, things: Things) -> None:
    run, runner = things.run(), things.runner()
    offered = things.attempt(run, runner)

    def body(conn: Connection) -> None:
        writes.insert_runner(conn, runner, created_by=USER_ID)
        writes.insert_run(conn, run)
        writes.insert_attempt(conn, offered)

    await database.write(body)
    starting = replace(offered, state=AttemptState.STARTING, assigned_at=later(1), state_directory_id="d")
    assert await database.write(partial(writes.save_attempt, old=offered, new=starting))
    rejected = replace(offered, state=AttemptState.REJECTED)
    assert not await database.write(partial(writes.save_attempt, old=offered, new=rejected))
    assert await database.read(partial(reads.attempt, key=key(offered))) == starting


async def test_an_epoch_is_given_out_once(database: Database, things: Things) -> None:
    run, runner = things.run(), things.runner()

    def body(conn: Connection) -> None:
        writes.insert_runner(conn, runner, created_by=USER_ID)
        writes.insert_run(conn, run)
        writes.insert_attempt(conn, things.attempt(run, runner))

    await database.write(body)
    with pytest.raises(IntegrityError):
        await database.write(partial(writes.insert_attempt, attempt=things.attempt(run, runner)))


async def test_a_spec_is_kept_once(database: Database, things: Things) -> None:
    def body(conn: Connection) -> None:
        writes.insert_spec(conn, "aa", b"one", T0, ("TOKEN", "OTHER"))
        writes.insert_spec(conn, "aa", b"another", T0)

    await database.write(body)
    assert await database.read(partial(reads.spec_bytes, sha256="aa")) == b"one"


async def test_events_are_numbered_in_the_order_of_commits(database: Database, things: Things) -> None:
    first, second = things.run(task_id=TaskId("t")), things.run()
    await insert(database, first, second)
    for run in (first, second, first):
        await database.write(partial(writes.append_events, events=[things.event(run, note="ä", actor="ada")]))
    both = [things.event(first, RunEventType.OFFERED), things.event(first, RunEventType.STARTED)]
    await database.write(partial(writes.append_events, events=both))
    newest = await database.read(reads.newest_event_number)

    async def after(number: int, limit: int = 100, **more: object) -> list[tuple[RunId, RunEventType]]:
        wanted = reads.EventFilter(project_id=PROJECT_ID, **more)  # type: ignore[arg-type]
        found = await database.read(partial(reads.events_after, wanted=wanted, number=number, limit=limit))
        numbers = [event.number for event in found]
        assert numbers == sorted(set(numbers))
        assert all(number < each <= newest for each in numbers)
        return [(event.run_id, event.type) for event in found]

    created, offered, started = RunEventType.CREATED, RunEventType.OFFERED, RunEventType.STARTED
    of_first = [(first.id, created), (first.id, created), (first.id, offered), (first.id, started)]
    assert await after(0) == [of_first[0], (second.id, created), *of_first[1:]]
    assert await after(0, run_id=first.id) == of_first
    assert await after(0, task_id=TaskId("t")) == of_first
    assert await after(0, limit=2) == [of_first[0], (second.id, created)]
    assert await after(newest) == []
    other = reads.EventFilter(project_id=ProjectId("other"))
    assert await database.read(partial(reads.events_after, wanted=other, number=0, limit=9)) == ()


async def test_the_numbers_of_deleted_events_are_never_given_again(database: Database, things: Things) -> None:
    old = things.run(state=RunState.SUCCEEDED, completed_at=T0, settled_at=T0)
    await insert(database, old)
    await database.write(partial(writes.append_events, events=[things.event(old)] * 3))
    hide = partial(writes.hide_old_runs, project_id=PROJECT_ID, before=later(1), limit=10, at=later(2))
    assert await database.write(hide) == 1
    assert await database.write(partial(writes.purge_rows, run_ids=[old.id], limit=10)) == 3
    await database.write(partial(writes.append_events, events=[things.event(old)]))
    newest = await database.read(reads.newest_event_number)
    await database.write(partial(writes.bury_runs, run_ids=[old.id], spec_sha256=SPEC_SHA256, at=later(2)))
    assert await database.write(partial(writes.delete_tombstones, before=later(3), limit=10, now=later(3))) == 1
    assert await database.read(reads.newest_event_number) == 0
    assert await database.read(reads.events_deleted_to) == newest
    fresh = things.run()
    await insert(database, fresh)
    await database.write(partial(writes.append_events, events=[things.event(fresh)]))
    assert await database.read(reads.newest_event_number) == newest + 1


async def test_the_queue_is_in_order_and_leaves_out_what_is_not_due(database: Database, things: Things) -> None:
    low, first, second, returned, urgent = (
        things.run(priority=-1),
        things.run(),
        things.run(),
        things.run(queue_rank=0),
        things.run(priority=9, not_before=later(10)),
    )
    away = things.run(priority=99, state=RunState.ASSIGNED)
    waiting = things.run(priority=99, not_before=later(11))
    await insert(database, low, first, second, returned, urgent, away, waiting)

    async def queue(seconds: float, limit: int = 100) -> list[RunId]:
        return [run.id for run in await database.read(partial(reads.queued_runs, now=later(seconds), limit=limit))]

    assert await queue(0) == [returned.id, first.id, second.id, low.id]
    assert await queue(10) == [urgent.id, returned.id, first.id, second.id, low.id]
    assert await queue(10, limit=2) == [urgent.id, returned.id]
    assert await database.read(partial(reads.next_not_before, now=later(0))) == later(10)
    assert await database.read(partial(reads.next_not_before, now=later(10))) == later(11)
    assert await database.read(partial(reads.next_not_before, now=later(11))) is None


async def test_due_runs_are_found_by_their_time(database: Database, things: Things) -> None:
    late, soon, never = things.run(due_at=later(1)), things.run(due_at=later(5)), things.run()
    await insert(database, soon, late, never)
    assert await database.read(partial(reads.due_runs, now=later(0), limit=9)) == ()
    assert await database.read(partial(reads.due_runs, now=later(5), limit=9)) == (late.id, soon.id)
    assert await database.read(partial(reads.due_runs, now=later(5), limit=1)) == (late.id,)


async def test_live_attempts_are_found_by_runner(database: Database, things: Things) -> None:
    here, there = things.runner(name="b", connected=True), things.runner(name="a", slots=2)
    runs = [things.run() for _ in range(len(AttemptState))]
    attempts = [things.attempt(run, here, state=state, slots=2) for run, state in zip(runs, AttemptState, strict=True)]
    other = things.run()

    def body(conn: Connection) -> None:
        for runner in (here, there):
            writes.insert_runner(conn, runner, created_by=USER_ID)
        for run in (*runs, other):
            writes.insert_run(conn, run)
        for attempt in attempts:
            writes.insert_attempt(conn, attempt)
        writes.insert_attempt(conn, things.attempt(other, there))

    await database.write(body)
    live = {AttemptState.OFFERED, AttemptState.STARTING, AttemptState.RUNNING, AttemptState.STOPPING}
    mine = await database.read(partial(reads.live_attempts, runner_id=here.id))
    assert {attempt.state for attempt in mine} == live
    assert len(await database.read(reads.live_attempts)) == 5
    seen = await database.read(reads.runners)
    assert [(runner.name, runner.slots_used, len(runner.held_run_ids)) for runner in seen] == [("a", 1, 1), ("b", 8, 4)]
    one = await database.read(partial(reads.runner, runner_id=here.id))
    assert isinstance(one, Runner)
    assert set(one.held_run_ids) == {attempt.run_id for attempt in mine}


async def test_an_attempt_shows_since_when_its_runner_is_away(database: Database, things: Things) -> None:
    away = things.runner(disconnected_since=later(3))
    run = things.run()
    running = things.attempt(run, away, state=AttemptState.RUNNING)
    ended = things.attempt(run, away, lease_epoch=2, state=AttemptState.LOST, ended_at=later(4))

    def body(conn: Connection) -> None:
        writes.insert_runner(conn, away, created_by=USER_ID)
        writes.insert_run(conn, run)
        writes.insert_attempt(conn, running)
        writes.insert_attempt(conn, ended)

    await database.write(body)
    newest, oldest = await database.read(partial(reads.attempts, run_id=run.id))
    assert newest.disconnected_since is None
    assert oldest.disconnected_since == later(3)


async def test_only_rejected_attempts_that_nobody_had_are_pruned(database: Database, things: Things) -> None:
    run, runner = things.run(), things.runner()
    rejected = AttemptState.REJECTED
    attempts = [things.attempt(run, runner, lease_epoch=number, state=rejected) for number in range(1, 8)]
    attempts[1] = replace(attempts[1], assigned_at=later(1))
    attempts[2] = replace(attempts[2], state=AttemptState.LOST)

    def body(conn: Connection) -> int:
        writes.insert_runner(conn, runner, created_by=USER_ID)
        writes.insert_run(conn, run)
        for attempt in attempts:
            writes.insert_attempt(conn, attempt)
        return writes.prune_rejected(conn, run.id, 2)

    assert await database.write(body) == 3
    left = await database.read(partial(reads.attempts, run_id=run.id))
    assert [attempt.lease_epoch for attempt in left] == [7, 6, 3, 2]


async def test_runs_go_only_when_they_are_old_settled_and_not_pinned(database: Database, things: Things) -> None:
    over = {"state": RunState.SUCCEEDED, "completed_at": T0, "settled_at": T0}
    old, unsettled, recent, kept = (
        things.run(**over),
        things.run(**(over | {"settled_at": None})),
        things.run(**(over | {"settled_at": later(100)})),
        things.run(**over, pinned=True),
    )

    def body(conn: Connection) -> None:
        for run in (old, unsettled, recent, kept):
            writes.insert_run(conn, run)

    await database.write(body)
    hide = partial(writes.hide_old_runs, project_id=PROJECT_ID, before=later(50), limit=10, at=later(100))
    assert await database.write(hide) == 1
    assert await database.write(partial(writes.pin_run, run_id=kept.id, pinned=False)) is None
    assert await database.write(hide) == 1
    there = {run.id: await database.read(partial(reads.run, run_id=run.id)) for run in (old, unsettled, recent, kept)}
    assert [run.id for run in (old, unsettled, recent, kept) if there[run.id]] == [unsettled.id, recent.id]


async def test_specs_go_when_nothing_refers_to_them(database: Database, things: Things) -> None:
    task = things.task()

    def body(conn: Connection) -> None:
        writes.insert_task(conn, task)
        writes.insert_spec(conn, "unused", b"x", T0, ("A",))
        writes.insert_spec(conn, "young", b"x", later(100))

    await database.write(body)
    assert await database.write(partial(writes.delete_unused_specs, before=later(50), limit=10)) == 1
    assert await database.read(partial(reads.spec_bytes, sha256="unused")) is None
    assert await database.read(partial(reads.spec_bytes, sha256="young")) == b"x"
    assert await database.read(partial(reads.spec_bytes, sha256=SPEC_SHA256)) == SPEC


async def test_status_counts_what_is_there(database: Database, things: Things) -> None:
    here, away = things.runner(connected=True, slots=4), things.runner(slots=8)
    gone = things.runner(revoked_at=T0, connected=True)
    running = things.run(state=RunState.RUNNING)
    task = things.task()

    def body(conn: Connection) -> None:
        for runner in (here, away, gone):
            writes.insert_runner(conn, runner, created_by=USER_ID)
        for run in (things.run(), things.run(), running, things.run(state=RunState.FAILED)):
            writes.insert_run(conn, run)
        writes.insert_attempt(conn, things.attempt(running, here, state=AttemptState.RUNNING, slots=3))
        writes.insert_task(conn, task)
        writes.insert_schedule(conn, things.schedule(task, next_fire_at=later(7)))
        writes.insert_schedule(conn, things.schedule(task, name="other", next_fire_at=later(1), paused=True))

    await database.write(body)
    assert await database.read(reads.status_counts) == reads.StatusCounts(
        runners_connected=1,
        runners_disconnected=1,
        slots_total=4,
        slots_used=3,
        runs_queued=2,
        runs_active=1,
        schedules_active=1,
        next_fire_at=later(7),
    )


async def test_newest_run_of_a_caller(database: Database, things: Things) -> None:
    mine, newer, others = things.run(), things.run(), things.run(created_by=PrincipalId("someone"))
    await insert(database, mine, newer, others)
    last = partial(reads.the_run, text="@last", project_id=None, principal_id=USER_ID)
    assert (await database.read(last)).id == newer.id
    assert newer.created_at - mine.created_at == timedelta(0)
