"""The server's core on a stage: real lifecycle, database, logs and ingest; runners are what their disks hold."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from control_plane.domain.attempt import Attempt
from control_plane.domain.ids import AttemptKey, Holder, RunId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.domain.run import Run
from control_plane.domain.session import ExitRecord, HeldAttempt, HeldPhase, LogAck, LogChunk
from control_plane.logs.files import FileLogStore
from control_plane.logs.ingest import Ingest
from control_plane.logs.ledger import HouseLedger
from control_plane.storage import reads
from control_plane.storage.database import Connection
from tests.fakes.world import World

T = TypeVar("T")
RUNNERS = ("r1", "r2")
PATIENCE_S = 30.0


@dataclass(slots=True)
class OnDisk:
    """One run directory: its phase, the bytes that its children wrote, and the exit record once there is one."""

    phase: HeldPhase
    written: bytes = b""
    record: ExitRecord | None = None

    def entry(self, key: AttemptKey) -> HeldAttempt:
        return HeldAttempt(key=key, phase=self.phase, exit=self.record)


@dataclass(slots=True)
class Host:
    """A runner's host as far as it matters: who it is, what is on its disk, whether the network reaches it."""

    holder: Holder
    disk: dict[AttemptKey, OnDisk] = field(default_factory=dict)
    cut_off: bool = False


@functools.cache
def _template() -> Path:
    """A state directory in which a server was started once; copies of it spare the migrations."""
    root = Path(tempfile.mkdtemp(prefix="bnk-stage-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)

    async def make() -> None:
        world = World(root / "state")
        await world.settle_in()
        await world.house.database.close()

    asyncio.run(make())
    return root / "state"


class Stage:
    """Everything that one example needs. Calls are synchronous; the loop runs only inside them."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="bnk-stage-"))
        shutil.copytree(_template(), self.root / "state")
        self._runner = asyncio.Runner()
        self.hosts: list[Host] = []
        self.acked: Counter[AttemptKey] = Counter()
        self.do(self._begin())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    async def _begin(self) -> None:
        self.world = World(self.root / "state")
        self.world.clock._random.seed(2)  # ids unlike those of the template
        self.world.project_id = (
            await self.world.house.database.read(lambda conn: reads.the_project(conn, "default"))
        ).id
        self.hosts = [Host(await self.world.runner(name, slots=3)) for name in RUNNERS]
        self._open_logs()

    def _open_logs(self) -> None:
        self.store = FileLogStore(self.root / "logs")
        ledger = HouseLedger(self.world.house)
        self.ingest = Ingest(ledger=ledger, store=self.store, watch=self.world.house.watch)
        self._committing = asyncio.get_running_loop().create_task(self.ingest.run(), name="ingest")

    async def _close_logs(self) -> None:
        self.ingest.close()
        await self._committing
        self.store.close()

    def crash(self) -> None:
        """Memory is gone; what was promised is not."""

        async def again() -> None:
            await self._close_logs()
            await self.world.restart()
            self._open_logs()

        self.do(again())

    def close(self) -> None:
        async def end() -> None:
            await self._close_logs()
            await self.world.house.database.close()

        with contextlib.closing(self._runner):
            self.do(end())
        shutil.rmtree(self.root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- logs ------------------------------------------------------------------------------------------------------

    def send(self, host: Host, key: AttemptKey, offset: int, data: bytes) -> None:
        """One chunk, and whatever is answered to it within this turn; acks are remembered."""
        record = LogRecord(kind=LogKind.STDOUT, at=self.world.clock.now(), data=data)
        chunk = LogChunk(key=key, offset=offset, records=(record,))
        answered = asyncio.Event()

        def answer(message: object) -> None:
            if isinstance(message, LogAck):
                self.acked[key] = max(self.acked[key], message.committed_offset)
            answered.set()

        async def body() -> None:
            await self.ingest.offer(key, host.holder, chunk, answer)
            async with asyncio.timeout(PATIENCE_S):
                await answered.wait()

        self.do(body())

    def seal(self, host: Host, key: AttemptKey) -> None:
        """The exit record is stored: seal the log if it is whole."""

        async def body() -> None:
            await self.ingest.exit_stored(key, host.holder, lambda message: None)
            await self.ingest.committed(key)

        self.do(body())

    def log(self, key: AttemptKey) -> bytes:
        """What a reader is served."""
        end, parts, offset = self.store.end(key), [], 0
        while offset < end:
            read = self.store.read(key, offset, 1 << 20)
            parts += [record.data for record in read.records]
            offset = read.next_offset
        return b"".join(parts)

    # -- what is stored --------------------------------------------------------------------------------------------

    def stored(self, run_id: RunId) -> tuple[Run, dict[int, Attempt], list[str]]:
        """A run, its attempts by epoch, and the kinds of its events."""

        def body(conn: Connection) -> tuple[Run, dict[int, Attempt], list[str]]:
            run = reads.run(conn, run_id)
            assert run is not None
            page = reads.PageRequest(page_size=1000)
            events = [str(event.type) for event in reads.list_events(conn, run_id, page).items]
            return run, {each.lease_epoch: each for each in reads.attempts(conn, run_id)}, events

        return self.do(self.world.house.database.read(body))
