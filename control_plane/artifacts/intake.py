"""Takes the artifacts of attempts in: one upload per attempt, the newest; each file goes on where it was cut."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from control_plane.artifacts.files import ArtifactFiles
from control_plane.domain.artifact import (
    CHUNK_BYTES,
    NOTE_CHARACTERS,
    NOTES,
    Announced,
    Artifact,
    ArtifactLimits,
    ArtifactState,
)
from control_plane.domain.errors import (
    Aborted,
    BanksmanError,
    ErrorCode,
    FieldViolation,
    ResourceExhausted,
    Unavailable,
    invalid_fields,
)
from control_plane.domain.ids import AttemptKey, Holder, RunId
from control_plane.domain.workspace import ArtifactPattern
from control_plane.lifecycle import artifacts
from control_plane.lifecycle.house import House
from control_plane.telemetry import logger

T = TypeVar("T")

log = logger("artifacts")

THREADS = 4
# While a large file comes, the database hears of it so often.
EXTEND_EVERY_S = 60.0
CHANGED = "its bytes are not those that were announced"


class Intake:
    """All uploads that are under way. `limits` hold for each attempt."""

    def __init__(self, house: House, files: ArtifactFiles, limits: ArtifactLimits) -> None:
        self.house, self.files, self.limits = house, files, limits
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="artifacts")
        self._newest: dict[AttemptKey, Upload] = {}

    async def open(self, holder: Holder, key: AttemptKey) -> Upload | None:
        """None: nothing is wanted of this attempt, or nothing any more. Raises NotFound, FailedPrecondition."""
        patterns = await artifacts.wanted(self.house, holder, key)
        if not patterns:
            return None
        upload = self._newest[key] = Upload(self, holder, key, patterns)
        return upload

    def close(self, upload: Upload) -> None:
        """Its call has ended."""
        if self._newest.get(upload.key) is upload:
            del self._newest[upload.key]

    def is_newest(self, upload: Upload) -> bool:
        return self._newest.get(upload.key) is upload

    def shut(self) -> None:
        """Begin nothing more; what was written goes on after the restart."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def expire(self) -> int:
        """Give up waiting where nothing has come for long; how many files that were not whole went with it."""
        gone = await artifacts.overdue(self.house)
        await self.remove(gone)
        return len(gone)

    async def remove(self, gone: Sequence[Artifact]) -> None:
        """Their bytes. Raises OSError."""
        for artifact in gone:
            await self.in_thread(partial(self.files.remove, artifact))

    async def remove_runs(self, run_ids: Sequence[RunId]) -> None:
        """All bytes of deleted runs; what still comes is turned away. Raises OSError."""
        for key in [key for key in self._newest if key.run_id in run_ids]:
            del self._newest[key]
        for run_id in run_ids:
            await self.in_thread(partial(self.files.remove_run, run_id))

    async def in_thread(self, body: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, body)


class Upload:
    """The files of one attempt, one after the other. Every method raises BanksmanError when it cannot go on."""

    def __init__(self, intake: Intake, holder: Holder, key: AttemptKey, patterns: tuple[ArtifactPattern, ...]) -> None:
        self._intake, self._holder = intake, holder
        self.key, self.patterns, self.limits = key, patterns, intake.limits
        self._file: Artifact | None = None
        self._end = 0
        self._began_anew = False
        self._told_s = intake.house.clock.monotonic_s()

    async def begin(self, announced: Announced) -> int | str | None:
        """Where its bytes are wanted from; None: it is stored; a text: why it will not be taken."""
        self._check()
        self._file = None
        found = await artifacts.begin(self._intake.house, self._holder, self.key, announced, self._intake.limits)
        await self._intake.remove(found.replaced)
        if found.artifact is None:
            return found.refused
        if found.artifact.state is ArtifactState.COMPLETE:
            return None
        self._file, self._began_anew = found.artifact, False
        self._end = await self._on_disk(partial(self._intake.files.begin, found.artifact))
        return await self._next(found.artifact)

    async def chunk(self, offset: int, data: bytes) -> int | str | None:
        """More of the file that was begun; answers as `begin` does."""
        self._check()
        file = self._file
        if file is None:
            raise _wrong("chunk", "comes only behind a begin that was answered with an offset")
        if offset != self._end:
            raise _wrong("chunk.offset", f"must be {self._end}, is {offset}")
        if not 1 <= len(data) <= CHUNK_BYTES:
            raise _wrong("chunk.data", f"must have 1 to {CHUNK_BYTES} bytes, has {len(data)}")
        if offset + len(data) > file.size_bytes:
            raise _wrong("chunk.data", f"ends behind the {file.size_bytes} bytes of the file")
        self._end = await self._on_disk(partial(self._intake.files.append, file, offset, data))
        await self._say_that_it_comes()
        return await self._next(file)

    async def finish(self, notes: Sequence[str]) -> None:
        """There are no more. `notes`: what was not found or could not be sent."""
        self._check()
        kept = [note[:NOTE_CHARACTERS] for note in notes[:NOTES] if note.isprintable()]
        house = self._intake.house
        broken = await artifacts.finish(house, self._holder, self.key, [f"artifacts: {note}" for note in kept])
        await self._intake.remove(broken)

    async def _next(self, file: Artifact) -> int | str | None:
        if self._end < file.size_bytes:
            return self._end
        if self._end == file.size_bytes and await self._on_disk(partial(self._intake.files.seal, file)):
            await artifacts.complete(self._intake.house, self._holder, self.key, file.id)
            self._file = None
            return None
        await self._on_disk(partial(self._intake.files.begin_anew, file))
        if self._began_anew:
            self._file = None
            return CHANGED
        # What an earlier upload left may have been damaged by a power cut.
        self._began_anew, self._end = True, 0
        return 0

    async def _say_that_it_comes(self) -> None:
        now_s = self._intake.house.clock.monotonic_s()
        if now_s - self._told_s >= EXTEND_EVERY_S:
            self._told_s = now_s
            await artifacts.extend(self._intake.house, self._holder, self.key)

    def _check(self) -> None:
        if not self._intake.is_newest(self):
            raise Aborted(ErrorCode.SESSION_SUPERSEDED, "A newer upload of the same attempt took over.")

    async def _on_disk(self, body: Callable[[], T]) -> T:
        try:
            return await self._intake.in_thread(body)
        except OSError as error:
            log.warning("an artifact could not be stored", run=self.key.run_id, error=str(error))
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ResourceExhausted(ErrorCode.STORAGE_FULL) from error
            raise Unavailable(ErrorCode.STORAGE_UNAVAILABLE) from error


def _wrong(field: str, what: str) -> BanksmanError:
    return invalid_fields(FieldViolation(field=field, description=what))
