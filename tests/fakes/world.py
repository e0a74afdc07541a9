"""A house on a real database, one runner, and the words to play both sides of the session."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from control_plane.api.convert import ProtoSpecCodec
from control_plane.domain.attempt import Attempt
from control_plane.domain.history import RunEventRecord
from control_plane.domain.ids import AttemptKey, Holder, PrincipalId, ProjectId, RunId, RunnerId
from control_plane.domain.logs import LogSeal
from control_plane.domain.placement import Match
from control_plane.domain.principal import Caller, Principal, PrincipalKind
from control_plane.domain.run import Run, RunOptions
from control_plane.domain.runner import Runner
from control_plane.domain.session import (
    Assignment,
    AttemptExited,
    AttemptStarted,
    ExitRecord,
    HeldAttempt,
    HeldPhase,
    Offer,
    OfferReply,
    ToRunner,
    Verdict,
)
from control_plane.domain.spec import RunSpec
from control_plane.domain.task import Task
from control_plane.lifecycle import attempts, clocks, housekeeping, logs, placements, reports, runs, tasks
from control_plane.lifecycle.house import House
from control_plane.storage import reads, writes
from control_plane.storage.database import Connection, Database
from control_plane.watch import Watch
from tests.fakes.cases import spec
from tests.fakes.clock import FakeClock


class PlainVault:
    """Values with their names in front: enough to see that the right one is opened."""

    def seal(self, project_id: ProjectId, name: str, version: int, value: bytes) -> bytes:
        return f"{project_id}/{name}/{version}:".encode() + value

    def open(self, project_id: ProjectId, name: str, version: int, sealed: bytes) -> bytes:
        prefix = f"{project_id}/{name}/{version}:".encode()
        if not sealed.startswith(prefix):
            raise ValueError("this value was sealed for another name")
        return sealed[len(prefix) :]


class World:
    """The server's side is real; runners are played by hand. `posted` is what went to runners, in order."""

    def __init__(self, state_directory: Path) -> None:
        self.state_directory = state_directory
        self.clock = FakeClock()
        self.posted: list[tuple[RunnerId, ToRunner]] = []
        self.project_id = ProjectId("")
        self.open()

    def open(self) -> None:
        """Start a server on the state directory; memory is empty, as after a crash."""
        self.house = House(
            database=Database.open(self.state_directory, self.clock),
            clock=self.clock,
            watch=Watch(),
            codec=ProtoSpecCodec(),
            vault=PlainVault(),
            post=lambda runner_id, message: self.posted.append((runner_id, message)),
        )

    async def restart(self) -> None:
        await self.house.database.close()
        self.posted.clear()
        self.open()
        await clocks.load_clocks(self.house)

    async def settle_in(self) -> None:
        await housekeeping.prepare(self.house)
        project = await self.house.database.read(lambda conn: reads.the_project(conn, ""))
        self.project_id = project.id
        await self.house.database.write(lambda conn: writes.insert_principal(conn, self.ann, created_by=""))

    # -- who --------------------------------------------------------------------------------------------------------

    @property
    def ann(self) -> Principal:
        return Principal(
            id=PrincipalId("01900000-0000-7000-8000-00000000a001"),
            kind=PrincipalKind.USER,
            name="ann",
            admin=True,
            created_at=self.clock.now(),
        )

    def caller(self, request_id: str = "", **changes: object) -> Caller:
        return Caller(principal=replace(self.ann, **changes), request_id=request_id)  # type: ignore[arg-type]

    async def runner(self, name: str = "r1", slots: int = 2) -> Holder:
        made = Runner(
            id=RunnerId(self.clock.new_id()),
            name=name,
            slots=slots,
            connected=True,
            state_directory_id=f"directory-of-{name}",
            created_at=self.clock.now(),
        )
        await self.house.database.write(lambda conn: writes.insert_runner(conn, made, created_by=self.ann.id))
        return Holder(runner_id=made.id, state_directory_id=made.state_directory_id)

    # -- what the server does -----------------------------------------------------------------------------------------

    async def submit(self, of: RunSpec | None = None, *, request_id: str = "", **options: object) -> Run:
        new = runs.NewRun(
            project_id=self.project_id,
            spec=spec() if of is None else of,
            options=RunOptions(**options),  # type: ignore[arg-type]
        )
        return await runs.create(self.house, self.caller(request_id), new)

    async def task(self, of: RunSpec | None = None, name: str = "build", **more: object) -> Task:
        new = tasks.NewTask(project_id=self.project_id, name=name, spec=of or spec(), **more)  # type: ignore[arg-type]
        return await tasks.create(self.house, self.caller(), new)

    async def run_task(self, task: Task) -> Run:
        return await runs.create(self.house, self.caller(), runs.NewRun(project_id=self.project_id, task_id=task.id))

    async def offered(self, run: Run, holder: Holder) -> AttemptKey:
        """Offer a run to a runner by hand; the key under which it was offered."""
        (key,) = await attempts.offer(self.house, [Match(run_id=run.id, runner_id=holder.runner_id)])
        return key

    async def place(self, *holders: Holder) -> dict[RunId, str]:
        """One round of the dispatcher; why the rest waits."""
        placement = await placements.decide(self.house, [holder.runner_id for holder in holders])
        await attempts.offer(self.house, placement.offers)
        return dict(placement.waiting)

    async def tick(self, after_s: float = 1.0) -> None:
        """The sweeper's next tick, on time however much time passed."""
        self.clock.advance(after_s)
        self.house.clocks.last_tick_s = self.clock.monotonic_s() - 1.0
        await clocks.tick(self.house)

    # -- what a runner says -------------------------------------------------------------------------------------------

    async def accept(self, key: AttemptKey, holder: Holder) -> None:
        await reports.offer_reply(self.house, holder, OfferReply(key=key, accept=True))

    async def started(self, key: AttemptKey, holder: Holder) -> None:
        await reports.attempt_started(self.house, holder, AttemptStarted(key=key, pid=7))

    async def exited(self, key: AttemptKey, holder: Holder, record: ExitRecord) -> None:
        await reports.attempt_exited(self.house, holder, AttemptExited(key=key, exit=record))

    async def running(self, run: Run, holder: Holder) -> AttemptKey:
        key = await self.offered(run, holder)
        await self.accept(key, holder)
        await self.started(key, holder)
        self.posted.clear()
        return key

    async def beat(
        self, holder: Holder, key: AttemptKey, phase: HeldPhase, record: ExitRecord | None = None
    ) -> Verdict:
        (verdict,) = await reports.heartbeat(self.house, holder, [HeldAttempt(key=key, phase=phase, exit=record)])
        return verdict

    async def sealed(self, key: AttemptKey) -> bool:
        return await logs.seal_log(self.house, key, LogSeal(bytes=10, digest="ab", complete=True))

    # -- what is stored -----------------------------------------------------------------------------------------------

    async def stored(self, run_id: RunId) -> Run:
        found = await self.house.database.read(lambda conn: reads.run(conn, run_id))
        assert found is not None
        return found

    async def attempt(self, key: AttemptKey) -> Attempt:
        found = await self.house.database.read(lambda conn: reads.attempt(conn, key))
        assert found is not None
        return found

    async def history(self, run_id: RunId) -> list[RunEventRecord]:
        def body(conn: Connection) -> tuple[RunEventRecord, ...]:
            return reads.list_events(conn, run_id, reads.PageRequest(page_size=100)).items

        return list(await self.house.database.read(body))

    async def kinds(self, run_id: RunId) -> list[str]:
        return [str(event.type) for event in await self.history(run_id)]

    async def writes_done(self) -> int:
        return self.house.database.statistics().verbs

    def last(self) -> ToRunner:
        return self.posted[-1][1]

    def assignment(self) -> Assignment:
        message = self.last()
        assert isinstance(message, Assignment)
        return message

    def offer(self) -> Offer:
        message = self.last()
        assert isinstance(message, Offer)
        return message
