"""Lists, and what a caller types: pages that stay stable, tokens that belong to one filter, ids and names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import insert as insert_into

from control_plane.domain.errors import ErrorCode, InvalidArgument, NotFound
from control_plane.domain.filter_fields import RUN_FIELDS
from control_plane.domain.filters import parse_filter
from control_plane.domain.ids import ProjectId, RunId, TaskId
from control_plane.domain.pages import Page
from control_plane.domain.run import Run, RunState
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection, Database
from control_plane.storage.reads import PageRequest, RunFilter
from control_plane.storage.shapes import RUN
from control_plane.storage.tables import RUNS
from tests.contract.storage_things import PROJECT_ID, USER_ID, Things, later


async def insert(database: Database, *runs: Run) -> None:
    def body(conn: Connection) -> None:
        for run in runs:
            writes.insert_run(conn, run)

    await database.write(body)


async def listed(database: Database, wanted: RunFilter | None = None, **request: object) -> Page[Run]:
    asked = PageRequest(**request)  # type: ignore[arg-type]
    return await database.read(lambda conn: reads.list_runs(conn, PROJECT_ID, wanted or RunFilter(), asked))


async def all_ids(database: Database, wanted: RunFilter, size: int) -> list[RunId]:
    ids: list[RunId] = []
    token = ""
    while True:
        page = await listed(database, wanted, page_size=size, page_token=token)
        assert len(page.items) <= size
        ids += [run.id for run in page.items]
        token = page.next_page_token
        if not token:
            return ids


async def test_pages_hold_every_row_once_while_rows_come(database: Database, things: Things) -> None:
    runs = [things.run() for _ in range(25)]
    await insert(database, *runs)
    newest_first = [run.id for run in reversed(runs)]
    first = await listed(database, page_size=10)
    await insert(database, *(things.run() for _ in range(5)))
    second = await listed(database, page_size=10, page_token=first.next_page_token)
    await insert(database, things.run())
    third = await listed(database, page_size=10, page_token=second.next_page_token)
    assert [run.id for run in (*first.items, *second.items, *third.items)] == newest_first
    assert third.next_page_token == ""


@pytest.mark.parametrize("size", [1, 3, 7, 8, 100])
async def test_filters_choose_and_page(database: Database, things: Things, size: int) -> None:
    task = TaskId("task")
    states = [RunState.QUEUED, RunState.FAILED, RunState.SUCCEEDED, RunState.FAILED]
    runs = [
        things.run(state=states[number % 4], task_id=task if number % 3 == 0 else None, created_at=later(number))
        for number in range(24)
    ]
    await insert(database, *runs)
    checks: list[tuple[RunFilter, Callable[[Run], bool]]] = [
        (RunFilter(), lambda run: True),
        (RunFilter(states=(RunState.FAILED,)), lambda run: run.state is RunState.FAILED),
        (
            RunFilter(states=(RunState.QUEUED, RunState.FAILED, RunState.LOST)),
            lambda run: run.state in (RunState.QUEUED, RunState.FAILED),
        ),
        (RunFilter(task_id=task), lambda run: run.task_id == task),
        (
            RunFilter(task_id=task, states=(RunState.QUEUED, RunState.SUCCEEDED)),
            lambda run: run.task_id == task and run.state in (RunState.QUEUED, RunState.SUCCEEDED),
        ),
        (RunFilter(created_after=later(20)), lambda run: run.created_at > later(20)),
    ]
    for wanted, chosen in checks:
        assert await all_ids(database, wanted, size) == [run.id for run in reversed(runs) if chosen(run)]


async def test_a_time_at_the_calendars_end_is_a_bound_like_any_other(database: Database, things: Things) -> None:
    run = things.run()
    await insert(database, run)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for text, found in [
        (f'created_at < "{last.isoformat()}"', [run.id]),
        (f'created_at >= "{last.isoformat()}"', []),
        (f'created_at > "{first.isoformat()}"', [run.id]),
        (f'created_at = "{first.isoformat()}"', []),
    ]:
        assert await all_ids(database, RunFilter(matching=parse_filter(text, RUN_FIELDS)), 5) == found
    assert await all_ids(database, RunFilter(created_after=first), 5) == [run.id]


async def test_a_page_token_belongs_to_its_filter(database: Database, things: Things) -> None:
    await insert(database, *(things.run() for _ in range(5)))
    token = (await listed(database, page_size=2)).next_page_token
    bad = [
        (RunFilter(states=(RunState.QUEUED,)), token),
        (RunFilter(task_id=TaskId("t")), token),
        (RunFilter(), token[:-2]),
        (RunFilter(), "AAAA" + token[4:]),
        (RunFilter(), "not a token"),
        (RunFilter(), "äöü"),
    ]
    for wanted, text in bad:
        with pytest.raises(InvalidArgument) as caught:
            await listed(database, wanted, page_token=text)
        assert caught.value.code is ErrorCode.PAGE_TOKEN_INVALID
    with pytest.raises(InvalidArgument):
        await database.read(
            lambda conn: reads.list_runs(conn, ProjectId("other"), RunFilter(), PageRequest(page_token=token))
        )
    assert len((await listed(database, page_size=3, page_token=token)).items) == 3


async def test_page_sizes(database: Database, things: Things) -> None:
    def body(conn: Connection) -> None:
        rows = [RUN.values(things.run(), short_id="00000000") for _ in range(1_001)]
        conn.execute(insert_into(RUNS), rows)

    await database.write(body)
    assert len((await listed(database)).items) == 50
    assert len((await listed(database, page_size=1_000)).items) == 1_000
    assert len((await listed(database, page_size=5_000)).items) == 1_000
    with pytest.raises(InvalidArgument) as caught:
        await listed(database, page_size=-1)
    assert [violation.field for violation in caught.value.violations] == ["page_size"]


async def test_total_size_is_counted_when_asked_and_capped(database: Database, things: Things) -> None:
    def add(count: int) -> Callable[[Connection], None]:
        def body(conn: Connection) -> None:
            conn.execute(insert_into(RUNS), [RUN.values(things.run(), short_id="00000000") for _ in range(count)])

        return body

    assert (await listed(database)).total_size is None
    await database.write(add(10_000))
    page = await listed(database, include_total_size=True, page_size=1)
    assert (page.total_size, page.total_size_capped) == (10_000, False)
    await database.write(add(1))
    page = await listed(database, RunFilter(states=(RunState.QUEUED, RunState.LOST)), include_total_size=True)
    assert (page.total_size, page.total_size_capped) == (10_000, True)


async def test_named_things_are_listed_by_name(database: Database, things: Things) -> None:
    names = ["b", "a", "ab", "ä", "abc", "Z"]

    def body(conn: Connection) -> None:
        for name in names:
            writes.insert_task(conn, things.task(name=name))
            writes.insert_runner(conn, things.runner(name=name), created_by=USER_ID)
            writes.insert_project(conn, things.project(name=f"p{name}"))

    await database.write(body)

    def pages(conn: Connection) -> list[list[str]]:
        first = reads.list_tasks(conn, PROJECT_ID, PageRequest(page_size=4))
        rest = reads.list_tasks(conn, PROJECT_ID, PageRequest(page_size=4, page_token=first.next_page_token))
        prefix = reads.list_tasks(conn, PROJECT_ID, PageRequest(), name_prefix="ab")
        runners = reads.list_runners(conn, PageRequest())
        projects = reads.list_projects(conn, PageRequest(include_total_size=True))
        assert projects.total_size == 7
        mine = reads.list_projects(conn, PageRequest(), only=(PROJECT_ID,))
        return [[item.name for item in page.items] for page in (first, rest, prefix, runners, mine)]

    assert await database.read(pages) == [
        ["Z", "a", "ab", "abc"],
        ["b", "ä"],
        ["ab", "abc"],
        sorted(names),
        ["default"],
    ]


async def test_a_runs_history_is_paged_oldest_first(database: Database, things: Things) -> None:
    run = things.run()
    await insert(database, run, things.run())
    await database.write(
        partial(writes.append_events, events=[things.event(run, note=str(number)) for number in range(7)])
    )
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page = await database.read(
            partial(reads.list_events, run_id=run.id, request=PageRequest(page_size=3, page_token=token))
        )
        seen += [event.note for event in page.items]
        token = page.next_page_token
    assert seen == [str(number) for number in range(7)]
    assert token == ""


class TestWhatACallerTypes:
    """Ids, short ids, names, @last."""

    async def resolve(self, database: Database, text: str, project_id: ProjectId | None = PROJECT_ID) -> RunId:
        found = partial(reads.the_run, text=text, project_id=project_id, principal_id=USER_ID)
        return (await database.read(found)).id

    async def test_run_by_id_and_short_id(self, database: Database, things: Things) -> None:
        run = things.run()
        await insert(database, run, *(things.run() for _ in range(20)))
        digits = run.id.replace("-", "")
        for text in (
            run.id,
            run.id.upper(),
            digits[-8:],
            digits[-8:].upper(),
            digits[-12:],
            digits[-20:],
            run.id[-17:],
        ):
            assert await self.resolve(database, text) == run.id
            assert await self.resolve(database, text, None) == run.id

    async def test_what_is_not_there(self, database: Database, things: Things) -> None:
        run = things.run()
        other = things.project(name="other")
        await database.write(partial(writes.insert_project, project=other))
        await insert(database, run)
        digits = run.id.replace("-", "")
        for text in ("", "x", digits[-7:], "0" * 8, "f" * 12, "@first", things.clock.new_id(), "' OR 1=1 --"):
            with pytest.raises(NotFound) as caught:
                await self.resolve(database, text)
            assert caught.value.code is ErrorCode.RUN_NOT_FOUND
        for text in (run.id, digits[-8:], "@last"):
            with pytest.raises(NotFound):
                await self.resolve(database, text, other.id)

    async def test_an_ambiguous_short_id_names_the_candidates(self, database: Database, things: Things) -> None:
        first = RunId("01900000-0000-7000-8000-00aa12345678")
        second = RunId("01900000-0000-7000-8000-00bb12345678")
        await insert(database, things.run(id=first), things.run(id=second))
        with pytest.raises(InvalidArgument) as caught:
            await self.resolve(database, "12345678")
        assert caught.value.code is ErrorCode.AMBIGUOUS_ID
        assert first in caught.value.message
        assert second in caught.value.message
        assert await self.resolve(database, "bb12345678") == second

    async def test_named_things(self, database: Database, things: Things) -> None:
        task, runner = things.task(name="build it"), things.runner(name="host-1")
        deleted = things.task(name="old", deleted_at=later(1))
        schedule = things.schedule(task, name="nightly")

        def fill(conn: Connection) -> None:
            writes.insert_task(conn, task)
            writes.insert_task(conn, deleted)
            writes.insert_runner(conn, runner, created_by=USER_ID)
            writes.insert_schedule(conn, schedule)

        def check(conn: Connection) -> None:
            assert reads.the_task(conn, PROJECT_ID, "build it") == reads.the_task(conn, PROJECT_ID, task.id) == task
            assert reads.the_runner(conn, "host-1") == reads.the_runner(conn, runner.id) == runner
            assert reads.the_schedule(conn, PROJECT_ID, "nightly") == schedule
            assert reads.the_schedule(conn, PROJECT_ID, schedule.id) == schedule
            assert reads.the_project(conn, "").id == reads.the_project(conn, "default").id == PROJECT_ID
            assert reads.the_principal(conn, "ada").id == USER_ID
            assert reads.task(conn, deleted.id) == deleted
            for missing in (
                partial(reads.the_task, conn, PROJECT_ID, "old"),
                partial(reads.the_task, conn, PROJECT_ID, deleted.id),
                partial(reads.the_task, conn, ProjectId("other"), task.id),
                partial(reads.the_runner, conn, "host"),
                partial(reads.the_project, conn, "nope"),
                partial(reads.the_schedule, conn, ProjectId("other"), schedule.id),
                partial(reads.the_principal, conn, ""),
            ):
                with pytest.raises(NotFound):
                    missing()

        await database.write(fill)
        await database.read(check)

    async def test_the_name_of_a_deleted_task_is_free(self, database: Database, things: Things) -> None:
        old, new = things.task(deleted_at=later(1)), things.task()

        def fill(conn: Connection) -> None:
            writes.insert_task(conn, old)
            writes.insert_task(conn, new)

        await database.write(fill)
        found = await database.read(partial(reads.the_task, project_id=PROJECT_ID, id_or_name=new.name))
        assert found == new
