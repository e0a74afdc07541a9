"""Storage's verbs on a real file, in any order, many to a commit, some failing, with the file opened anew in between.

A model in plain dictionaries says what must be stored: moves that compare and set, request ids, firings, pages.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from control_plane.domain.attempt import Attempt, AttemptState
from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.run import Run, RunState
from control_plane.domain.schedule import FiringOrigin
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection, Database
from control_plane.storage.reads import PageRequest, RunFilter
from tests.contract.storage_things import PROJECT_ID, T0, USER_ID, Things
from tests.fakes.clock import FakeClock

T = TypeVar("T")
STATES = st.sampled_from((RunState.ASSIGNED, RunState.RUNNING, RunState.CANCELLING, RunState.SUCCEEDED))
numbers = st.integers(0, 100)
Body = Callable[[Connection], Any]


class Refused(Exception):
    """A verb that changed something and then thought better of it."""


class Storage(RuleBasedStateMachine):
    """One database file and what must be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp(prefix="bnk-storage-"))
        self.things = Things(FakeClock(start=T0))
        self.database = Database.open(self.root, self.things.clock)
        self.runs: dict[RunId, Run] = {}
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.requests: dict[tuple[str, str], str] = {}
        self.firings: set[int] = set()
        self.old: list[tuple[Run, Run]] = []

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)

    def write(self, body: Callable[[Connection], T]) -> T:
        return self.do(self.database.write(body))

    def teardown(self) -> None:
        self.do(self.database.close())
        self.loop.close()
        shutil.rmtree(self.root)

    @initialize()
    def foundations(self) -> None:
        self.runner, task = self.things.runner(), self.things.task()
        self.schedule = self.things.schedule(task)

        def body(conn: Connection) -> None:
            self.things.foundations(conn)
            writes.insert_runner(conn, self.runner, created_by=USER_ID)
            writes.insert_task(conn, task)
            writes.insert_schedule(conn, self.schedule)

        self.write(body)

    # -- verbs: each gives what is to run in a transaction, and what is true once it counts -------------------------

    def _insert(self) -> tuple[Body, Callable[[], None]]:
        run = self.things.run()

        def done() -> None:
            self.runs[run.id] = run

        return partial(writes.insert_run, run=run), done

    def _some(self, which: int) -> Run:
        return list(self.runs.values())[which % len(self.runs)]

    def _move(self, which: int, state: RunState) -> tuple[Body, Callable[[], None]]:
        old = self._some(which)
        new = replace(old, state=state, lease_epoch=old.lease_epoch + 1, error_message=str(which))

        def body(conn: Connection) -> None:
            assert writes.save_run(conn, old, new), "it is as it was read"

        def done() -> None:
            self.runs[old.id] = new
            self.old.append((old, new))

        return body, done

    @rule(count=st.integers(1, 4))
    def insert(self, count: int) -> None:
        self._together([self._insert() for _ in range(count)])

    @precondition(lambda self: self.runs)
    @rule(which=numbers, state=STATES)
    def move(self, which: int, state: RunState) -> None:
        self._together([self._move(which, state)])

    @precondition(lambda self: self.old)
    @rule(which=numbers, state=STATES)
    def move_what_has_moved(self, which: int, state: RunState) -> None:
        """Nothing is written over a row that is not as it was read."""
        old, _ = self.old[which % len(self.old)]
        late = replace(old, state=state, error_message="late")
        moved = self.write(partial(writes.save_run, old=old, new=late))
        assert moved is False

    @precondition(lambda self: self.runs)
    @rule(which=numbers)
    def offer(self, which: int) -> None:
        run = self._some(which)
        attempt = self.things.attempt(run, self.runner, lease_epoch=len(self.attempts) + 1)
        self.write(partial(writes.insert_attempt, attempt=attempt))
        self.attempts[attempt.key] = attempt

    @precondition(lambda self: self.attempts)
    @rule(which=numbers, state=st.sampled_from(AttemptState))
    def move_an_attempt(self, which: int, state: AttemptState) -> None:
        old = list(self.attempts.values())[which % len(self.attempts)]
        new = replace(old, state=state, pid=which)
        assert self.write(partial(writes.save_attempt, old=old, new=new))
        self.attempts[old.key] = new
        if old.state is not state:
            assert not self.write(partial(writes.save_attempt, old=old, new=replace(old, pid=-1)))

    @precondition(lambda self: self.runs)
    @rule(which=numbers, verbs=st.lists(st.sampled_from(("insert", "move", "fail")), min_size=2, max_size=6))
    def many_at_once(self, which: int, verbs: list[str]) -> None:
        """They share a commit; one that fails takes back its own changes and nobody else's."""
        work: list[tuple[Body, Callable[[], None] | None]] = []
        moves = 0
        for verb in verbs:
            if verb == "insert":
                work.append(self._insert())
            elif verb == "fail":
                work.append((self._failing(which), None))
            elif moves < len(self.runs):
                work.append(self._move(which + moves, RunState.RUNNING))
                moves += 1
        self._together(work)

    def _failing(self, which: int) -> Body:
        run, made = self._some(which), self.things.run()

        def body(conn: Connection) -> None:
            writes.insert_run(conn, made)
            writes.append_events(conn, ())
            raise Refused(run.id)

        return body

    def _together(self, work: list[tuple[Body, Any]]) -> None:
        async def body() -> list[object]:
            verbs = [self.database.write(each) for each, _ in work]
            return await asyncio.gather(*verbs, return_exceptions=True)

        for (_, done), result in zip(work, self.do(body()), strict=True):
            if done is None:
                assert isinstance(result, Refused)
            else:
                assert not isinstance(result, BaseException), result
                done()

    @rule(who=st.sampled_from((USER_ID, "other")), request=st.sampled_from("abc"))
    def remember_a_request(self, who: Any, request: str) -> None:
        made = self.requests.get((who, request))
        found = self._request(who, request)
        assert (None if found is None else found.resource_id) == made
        if found is None:
            resource = f"made-{len(self.requests)}"
            self.write(
                partial(
                    writes.insert_request, principal_id=who, method="CreateRun", request_id=request,
                    body_sha256="0", resource_id=resource, at=T0,
                )
            )  # fmt: skip
            self.requests[who, request] = resource

    def _request(self, who: Any, request: str, method: str = "CreateRun") -> Any:
        body = partial(
            reads.stored_request, principal_id=who, method=method, request_id=request,
            not_before=T0 - timedelta(seconds=1),
        )  # fmt: skip
        return self.do(self.database.read(body))

    @rule(origin=st.sampled_from(FiringOrigin), minute=st.integers(0, 3))
    def fire(self, origin: FiringOrigin, minute: int) -> None:
        """An instant of a schedule is taken once, by whomever and whatever for."""
        when = T0 + timedelta(minutes=minute)
        take = partial(
            writes.insert_firing, schedule=self.schedule, origin=origin, scheduled_time=when, created_by=USER_ID, at=T0
        )

        async def two_at_once() -> list[bool]:
            return list(await asyncio.gather(self.database.write(take), self.database.write(take)))

        taken = self.do(two_at_once())
        assert sum(taken) == (minute not in self.firings)
        self.firings.add(minute)

    # -- trouble ---------------------------------------------------------------------------------------------------

    @rule()
    def open_anew(self) -> None:
        self.do(self.database.close())
        self.database = Database.open(self.root, self.things.clock)

    @precondition(lambda self: self.runs)
    @rule()
    def copy_without_closing(self) -> None:
        """What a machine finds whose server was killed: the files as they lie there, the log of writes included."""
        killed = self.root.with_name(self.root.name + "-killed")
        shutil.copytree(self.root, killed)
        found = Database.open(killed, self.things.clock)
        stored = self.do(found.read(partial(self._stored)))
        self.do(found.close())
        shutil.rmtree(killed)
        assert stored == self.runs

    # -- what must always hold ---------------------------------------------------------------------------------------

    def _stored(self, conn: Connection) -> dict[RunId, Run]:
        found = {run_id: reads.run(conn, run_id) for run_id in self.runs}
        return {run_id: run for run_id, run in found.items() if run is not None}

    @invariant()
    def what_was_answered_is_there(self) -> None:
        def body(conn: Connection) -> None:
            assert self._stored(conn) == self.runs
            for key, attempt in self.attempts.items():
                assert reads.attempt(conn, key) == attempt
            fired = reads.firings(conn, self.schedule.id, 100) if self.firings else ()
            assert len(fired) == len(self.firings)

        self.do(self.database.read(body))

    @precondition(lambda self: self.runs)
    @rule(size=st.integers(1, 3), states=st.sets(st.sampled_from((RunState.QUEUED, RunState.RUNNING)), max_size=2))
    def page_through(self, size: int, states: set[RunState]) -> None:
        """Every run once, newest first, whatever the size of the pages; one that is born meanwhile does not disturb."""
        wanted = RunFilter(states=tuple(states))
        expected = [run.id for run in self.runs.values() if not states or run.state in states]
        seen: list[RunId] = []
        token, born = "", False
        while True:
            request = PageRequest(page_size=size, page_token=token)
            body = partial(reads.list_runs, project_id=PROJECT_ID, wanted=wanted, request=request)
            page = self.do(self.database.read(body))
            assert len(page.items) <= size
            seen += [run.id for run in page.items]
            if not born:
                self._together([self._insert()])
                born = True
            if not (token := page.next_page_token):
                break
        assert seen == sorted(expected, reverse=True)


TestStorage = Storage.TestCase
TestStorage.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
