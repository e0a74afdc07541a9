"""Runs as their readers see them: the row, its attempts, its spec, and why it waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from banksman.v1 import run_pb2

from control_plane.api.convert import run_message
from control_plane.api.trouble import Trouble
from control_plane.domain.attempt import AttemptState
from control_plane.domain.ids import RunId
from control_plane.domain.run import Run, RunState
from control_plane.domain.spec import RunSpec
from control_plane.domain.spec_rules import with_defaults
from control_plane.lifecycle.house import House
from control_plane.storage import reads
from control_plane.storage.database import Connection

MOST_REJECTED = 20


class Views:
    """Builds the messages of runs.

    Args:
        waiting: the dispatcher's sentence for a run that it could not place; empty when it has none.
    """

    def __init__(self, house: House, waiting: Callable[[RunId], str], trouble: Trouble) -> None:
        self._house, self._waiting, self._trouble = house, waiting, trouble

    def brief(self, run: Run) -> run_pb2.Run:
        """For lists and watches: without spec and attempts."""
        return run_message(self._explained(run))

    async def created(self, run: Run, spec: RunSpec | None) -> run_pb2.Run:
        """A run that was just made of this spec; without one, or if it is an older one after all, as `whole`."""
        if spec is None or run.lease_epoch or run.state is not RunState.QUEUED:
            return await self.whole(run)
        return run_message(self._explained(run), with_defaults(spec))

    async def whole(self, run: Run) -> run_pb2.Run:
        """Everything that is known of a run."""
        run, spec = await self._house.database.read(lambda connection: self.load(connection, run))
        return run_message(self._trouble.shown(self._explained(run)), spec)

    def load(self, connection: Connection, run: Run) -> tuple[Run, RunSpec | None]:
        """The run with its attempts, as it is in this snapshot, and its spec."""
        run = reads.run(connection, run.id) or run
        attempts = reads.attempts(connection, run.id)
        rejected = [attempt for attempt in attempts if attempt.state is AttemptState.REJECTED]
        hidden = {attempt.lease_epoch for attempt in rejected[MOST_REJECTED:]}
        shown = tuple(attempt for attempt in attempts if attempt.lease_epoch not in hidden)
        data = reads.spec_bytes(connection, run.spec_sha256)
        return replace(run, attempts=shown), None if data is None else self._house.codec.decode(data)

    def _explained(self, run: Run) -> Run:
        """A queued run says why it waits."""
        if run.state is not RunState.QUEUED:
            return run
        if run.not_before is not None and run.not_before > self._house.clock.now():
            return replace(run, waiting_because=f"Not before {run.not_before:%Y-%m-%d %H:%M:%S} UTC.")
        sentence = self._waiting(run.id) or "It waits for its turn."
        return replace(run, waiting_because=sentence)
