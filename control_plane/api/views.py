"""Runs as their readers see them: the row, its attempts, its spec, and why it waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from banksman.v1 import run_pb2

from control_plane.api.convert import run_message
from control_plane.api.trouble import Trouble
from control_plane.domain.attempt import AttemptState
from control_plane.domain.copies import replace
from control_plane.domain.ids import AttemptKey
from control_plane.domain.progress import Progress
from control_plane.domain.run import Run, RunState
from control_plane.domain.spec import RunSpec
from control_plane.lifecycle.house import House
from control_plane.storage import reads
from control_plane.storage.database import Connection

MOST_REJECTED = 20


class Views:
    """Builds the messages of runs.

    Args:
        waiting: the dispatcher's sentence for a queued run; empty when it has none.
        stored: how many bytes of an open log are durable.
    """

    def __init__(
        self,
        house: House,
        waiting: Callable[[Run], str],
        trouble: Trouble,
        stored: Callable[[AttemptKey], Awaitable[int]],
    ) -> None:
        self._house, self._waiting, self._trouble, self._stored = house, waiting, trouble, stored

    def brief(self, run: Run) -> run_pb2.Run:
        """For lists and watches: without spec and attempts."""
        return run_message(self._explained(self._estimated(run)))

    async def created(self, run: Run, spec: RunSpec | None) -> run_pb2.Run:
        """A run that was just made of this spec; without one, or if it is an older one after all, as `whole`."""
        if spec is None or run.lease_epoch or run.state is not RunState.QUEUED:
            return await self.whole(run)
        return run_message(self._explained(run), self._house.specs.freeze(spec).spec)

    async def whole(self, run: Run) -> run_pb2.Run:
        """Everything that is known of a run."""
        run, spec = await self._house.database.read(lambda connection: self.load(connection, run))
        run = await self.counted(run)
        return run_message(self._trouble.shown(self._explained(self._estimated(run))), spec)

    def load(self, connection: Connection, run: Run) -> tuple[Run, RunSpec | None]:
        """The run with its attempts, as it is in this snapshot, and its spec."""
        run = reads.run(connection, run.id) or run
        attempts = reads.attempts(connection, run.id)
        rejected = [attempt for attempt in attempts if attempt.state is AttemptState.REJECTED]
        hidden = {attempt.lease_epoch for attempt in rejected[MOST_REJECTED:]}
        shown = tuple(attempt for attempt in attempts if attempt.lease_epoch not in hidden)
        data = reads.spec_bytes(connection, run.spec_sha256)
        if run.state is RunState.QUEUED and run.schedule_id and (ahead := reads.run_ahead(connection, run.id)):
            run = replace(run, waiting_because=f"Its schedule lets it wait until run {ahead} is over.")
        return replace(run, attempts=shown), None if data is None else self._house.codec.decode(data)

    async def counted(self, run: Run) -> Run:
        """The bytes of a log are a column once it is sealed; until then whoever takes it in knows them."""
        attempts = [
            replace(each, log_bytes=await self._stored(each.key))
            if each.assigned_at is not None and each.log_sealed_at is None
            else each
            for each in run.attempts
        ]
        return replace(run, attempts=tuple(attempts))

    def _estimated(self, run: Run) -> Run:
        """While its host says that a run lives, the time of its progress is that of the host's last word."""
        renewed_s = self._house.clocks.renewed_s(AttemptKey(run_id=run.id, lease_epoch=run.lease_epoch))
        if renewed_s is None or run.state not in (RunState.RUNNING, RunState.CANCELLING):
            return run
        ago = timedelta(seconds=max(0.0, self._house.clock.monotonic_s() - renewed_s))
        progress, heard_at = run.progress or Progress(), self._house.clock.now() - ago
        if progress.updated_at is not None and progress.updated_at >= heard_at:
            return run
        progress = replace(progress, updated_at=heard_at, estimated=True)
        attempts = [
            replace(each, progress=progress) if each.lease_epoch == run.lease_epoch else each for each in run.attempts
        ]
        return replace(run, progress=progress, attempts=tuple(attempts))

    def _explained(self, run: Run) -> Run:
        """A queued run says why it waits."""
        if run.state is not RunState.QUEUED:
            return run
        if run.not_before is not None and run.not_before > self._house.clock.now():
            return replace(run, waiting_because=f"Not before {run.not_before:%Y-%m-%d %H:%M:%S} UTC.")
        sentence = run.waiting_because or self._waiting(run) or "It waits for its turn."
        return replace(run, waiting_because=sentence)
