"""The log room's part of the database, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from control_plane.domain.errors import ErrorCode, Unavailable
from control_plane.domain.ids import AttemptKey, Holder, RunId
from control_plane.domain.logs import LogAttempt, LogExit, LogOwner, LogSeal, LogSegment, LogView
from control_plane.domain.run import RunState
from control_plane.watch import Watch


class MemoryLedger:
    """`broken` makes every call fail as a database that does not answer does."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.owners: dict[AttemptKey, LogOwner] = {}
        self.views: dict[RunId, LogView] = {}
        self.seals: dict[AttemptKey, LogSeal] = {}
        self.gone: list[AttemptKey] = []
        self.broken = False
        self.looks = 0

    # -- what a test brings about -------------------------------------------------------------------------------------

    def add(self, key: AttemptKey, holder: Holder) -> None:
        """An attempt that was accepted; its run is RUNNING then."""
        view = self.views.get(key.run_id)
        attempts = view.attempts if view else ()
        attempt = LogAttempt(lease_epoch=key.lease_epoch, number=len(attempts) + 1, finished=False)
        self.owners[key] = LogOwner(holder=holder, current_lease_epoch=key.lease_epoch)
        self.put(key.run_id, RunState.RUNNING, (*attempts, attempt))

    def put(self, run_id: RunId, state: RunState, attempts: tuple[LogAttempt, ...] = ()) -> None:
        self.views[run_id] = LogView(run_id=run_id, state=state, reason=None, exit_code=None, attempts=attempts)
        self._watch.notify(f"run:{run_id}")

    def exited(self, key: AttemptKey, ended: LogExit, *, state: RunState = RunState.SUCCEEDED) -> None:
        """The attempt's exit record is stored, and the run moves on."""
        self.owners[key] = replace(self.owners[key], exit=ended)
        self.finish(key, state=state)

    def finish(self, key: AttemptKey, *, state: RunState) -> None:
        """The attempt is over, with or without an exit record."""
        attempts = tuple(
            replace(attempt, finished=True, exit_code=0) if attempt.lease_epoch == key.lease_epoch else attempt
            for attempt in self.views[key.run_id].attempts
        )
        self.put(key.run_id, state, attempts)

    # -- the ledger ---------------------------------------------------------------------------------------------------

    async def owner(self, key: AttemptKey) -> LogOwner | None:
        self._check()
        return self.owners.get(key)

    async def view(self, run_id: RunId) -> LogView | None:
        self._check()
        self.looks += 1
        return self.views.get(run_id)

    async def unsealed(self, holder: Holder) -> tuple[AttemptKey, ...]:
        self._check()
        return tuple(
            key
            for key, owner in self.owners.items()
            if owner.holder == holder and not owner.sealed and self._attempt(key).finished
        )

    async def seal(self, key: AttemptKey, seal: LogSeal) -> None:
        self._check()
        if key in self.seals:
            return
        self.seals[key] = seal
        self.owners[key] = replace(self.owners[key], sealed=True)
        view = self.views[key.run_id]
        attempts = tuple(
            replace(attempt, sealed=True, complete=seal.complete, bytes=seal.bytes, digest=seal.digest)
            if attempt.lease_epoch == key.lease_epoch
            else attempt
            for attempt in view.attempts
        )
        self.put(key.run_id, view.state, attempts)

    async def resized(self, key: AttemptKey, segments: Iterable[LogSegment]) -> None:
        self._check()
        self.seals[key] = replace(self.seals[key], segments=tuple(segments))

    async def abandoned(self, older_than_s: float, limit: int) -> tuple[AttemptKey, ...]:
        self._check()
        unsealed = (key for key, owner in self.owners.items() if not owner.sealed and self._attempt(key).finished)
        return tuple(unsealed)[:limit]

    async def expired(self, older_than_s: float, limit: int) -> tuple[AttemptKey, ...]:
        self._check()
        return tuple(key for key in self.seals if key not in self.gone)[:limit]

    async def oldest(self, limit: int) -> tuple[tuple[AttemptKey, int], ...]:
        self._check()
        left = ((key, seal.bytes) for key, seal in self.seals.items() if key not in self.gone)
        return tuple(left)[:limit]

    async def stored_bytes(self) -> int:
        self._check()
        return sum(seal.bytes for key, seal in self.seals.items() if key not in self.gone)

    async def deleted(self, keys: Iterable[AttemptKey]) -> None:
        self._check()
        self.gone += keys

    def _attempt(self, key: AttemptKey) -> LogAttempt:
        attempt = self.views[key.run_id].attempt(key.lease_epoch)
        assert attempt is not None
        return attempt

    def _check(self) -> None:
        if self.broken:
            raise Unavailable(ErrorCode.STORAGE_UNAVAILABLE)
