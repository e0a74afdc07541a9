"""The log index: who may write a log, what a reader follows, which logs are old."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from control_plane.domain.attempt import AttemptState
from control_plane.domain.ids import AttemptKey, Holder, RunId
from control_plane.domain.logs import LogAttempt, LogExit, LogOwner, LogSegment, LogView
from control_plane.domain.run import RunState
from control_plane.domain.runner import Runner
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection, Database
from tests.contract.storage_things import PROJECT_ID, T0, USER_ID, Things, key, later


async def with_runner(database: Database, things: Things) -> Runner:
    runner = things.runner()
    await database.write(partial(writes.insert_runner, runner=runner, created_by=USER_ID))
    return runner


def segment(index: int, first: int, end: int, stored: int = 7) -> LogSegment:
    return LogSegment(
        index=index, first_offset=first, end_offset=end, first_at=later(index), newlines=2, stored_bytes=stored
    )


async def test_a_log_belongs_to_who_accepted_the_attempt(database: Database, things: Things) -> None:
    runner = await with_runner(database, things)
    run = things.run(lease_epoch=9)
    offered = things.attempt(run, runner)
    mine = things.attempt(
        run, runner, lease_epoch=2, state=AttemptState.RUNNING, state_directory_id="d", assigned_at=later(1)
    )

    def body(conn: Connection) -> None:
        writes.insert_run(conn, run)
        writes.insert_attempt(conn, offered)
        writes.insert_attempt(conn, mine)

    await database.write(body)
    owner = partial(reads.log_owner, key=key(mine))
    holder = Holder(runner_id=runner.id, state_directory_id="d")
    assert await database.read(partial(reads.log_owner, key=key(offered))) is None
    assert await database.read(partial(reads.log_owner, key=AttemptKey(run_id=RunId("x"), lease_epoch=1))) is None
    assert await database.read(owner) == LogOwner(holder=holder, current_lease_epoch=9)
    ended = replace(
        mine, exit_stored=True, final_offset=5, expected_digest="ab", log_counted=False, log_sealed_at=later(2)
    )
    await database.write(partial(writes.save_attempt, old=mine, new=ended))
    assert await database.read(owner) == LogOwner(
        holder=holder,
        sealed=True,
        exit=LogExit(final_offset=5, digest="ab", counted=False),
        current_lease_epoch=9,
    )


async def test_a_reader_sees_the_attempts_that_were_accepted(database: Database, things: Things) -> None:
    runner = await with_runner(database, things)
    run = things.run(state=RunState.RUNNING)
    sealed = replace(things.full_attempt(run, runner), lease_epoch=3)
    running = things.attempt(run, runner, lease_epoch=5, number=2, state=AttemptState.RUNNING, assigned_at=later(9))

    def body(conn: Connection) -> None:
        writes.insert_run(conn, run)
        writes.insert_attempt(conn, things.attempt(run, runner, lease_epoch=1, state=AttemptState.REJECTED))
        writes.insert_attempt(conn, running)
        writes.insert_attempt(conn, sealed)

    await database.write(body)
    first = LogAttempt(
        lease_epoch=3, number=3, finished=True, sealed=True, complete=True, bytes=10, digest="ab", exit_code=143
    )
    second = LogAttempt(lease_epoch=5, number=2, finished=False)
    view = LogView(run_id=run.id, state=RunState.RUNNING, reason=None, exit_code=None, attempts=(first, second))
    assert await database.read(partial(reads.log_view, run_id=run.id)) == view
    assert await database.read(partial(reads.log_view, run_id=RunId("x"))) is None
    assert await database.write(partial(writes.mark_log_deleted, key=key(sealed), at=later(10)))
    assert not await database.write(partial(writes.mark_log_deleted, key=key(sealed), at=later(10)))
    seen = await database.read(partial(reads.log_view, run_id=run.id))
    assert seen is not None
    assert seen.attempts == (replace(first, deleted=True), second)


async def test_the_newest_word_about_a_segment_counts(database: Database, things: Things) -> None:
    runner = await with_runner(database, things)
    run = things.run()
    attempt = things.attempt(run, runner)

    def body(conn: Connection) -> None:
        writes.insert_run(conn, run)
        writes.insert_attempt(conn, attempt)
        writes.upsert_segment(conn, key(attempt), segment(1, 100, 150))
        writes.upsert_segment(conn, key(attempt), segment(0, 0, 50))
        writes.upsert_segment(conn, key(attempt), segment(0, 0, 100, stored=20))

    await database.write(body)
    found = await database.read(partial(reads.log_segments, key=key(attempt)))
    assert found == (segment(0, 0, 100, stored=20), segment(1, 100, 150))
    assert await database.read(reads.log_bytes_total) == 27
    await database.write(partial(writes.mark_log_deleted, key=key(attempt), at=later(1)))
    assert await database.read(reads.log_bytes_total) == 0


async def test_logs_of_ended_attempts_that_are_not_sealed(database: Database, things: Things) -> None:
    runner = await with_runner(database, things)
    run = things.run()
    mine = {"state_directory_id": "d", "assigned_at": later(1)}
    ended = things.attempt(run, runner, lease_epoch=1, state=AttemptState.LOST, **mine)
    others = [
        things.attempt(run, runner, lease_epoch=2, state=AttemptState.RUNNING, **mine),
        things.attempt(run, runner, lease_epoch=3, state=AttemptState.LOST, log_sealed_at=later(2), **mine),
        things.attempt(run, runner, lease_epoch=4, state=AttemptState.LOST, **(mine | {"state_directory_id": "e"})),
        things.attempt(run, runner, lease_epoch=5, state=AttemptState.REJECTED),
    ]

    def body(conn: Connection) -> None:
        writes.insert_run(conn, run)
        for attempt in (ended, *others):
            writes.insert_attempt(conn, attempt)

    await database.write(body)
    holder = Holder(runner_id=runner.id, state_directory_id="d")
    assert await database.read(partial(reads.unsealed_logs, holder=holder)) == (key(ended),)


async def test_old_logs_are_found_by_age_and_by_size(database: Database, things: Things) -> None:
    runner = await with_runner(database, things)
    ages = (30.0, 10.0, 20.0)
    runs = [things.run(state=RunState.SUCCEEDED, completed_at=T0, settled_at=later(age)) for age in ages]
    active = things.run(state=RunState.RUNNING)
    attempts = [
        things.attempt(run, runner, state=AttemptState.SUCCEEDED, assigned_at=T0, log_sealed_at=run.settled_at or T0)
        for run in (*runs, active)
    ]

    def body(conn: Connection) -> None:
        for run, attempt in zip((*runs, active), attempts, strict=True):
            writes.insert_run(conn, run)
            writes.insert_attempt(conn, attempt)
        writes.upsert_segment(conn, key(attempts[1]), segment(0, 0, 5, stored=5))
        writes.upsert_segment(conn, key(attempts[1]), segment(1, 5, 9, stored=6))

    await database.write(body)
    newest, oldest, middle = (key(attempt) for attempt in attempts[:3])
    of_project = partial(reads.oldest_logs_of_project, project_id=PROJECT_ID)
    assert [each[0] for each in await database.read(partial(of_project, limit=2))] == [oldest, middle]
    assert (await database.read(partial(of_project, limit=1))) == ((oldest, 11, later(10)),)
    assert await database.read(partial(reads.oldest_logs, limit=9)) == ((oldest, 11), (middle, 0), (newest, 0))
    await database.write(partial(writes.mark_log_deleted, key=oldest, at=later(99)))
    assert [each[0] for each in await database.read(partial(of_project, limit=9))] == [middle, newest]
    await database.write(partial(writes.pin_run, run_id=middle.run_id, pinned=True))
    assert [each[0] for each in await database.read(partial(of_project, limit=9))] == [newest]
