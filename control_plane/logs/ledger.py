"""The part of the database that the log room needs."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from control_plane.domain.ids import AttemptKey, Holder, RunId
from control_plane.domain.logs import LogOwner, LogSeal, LogSegment, LogView
from control_plane.domain.project import Retention
from control_plane.lifecycle import logs, retention
from control_plane.lifecycle.house import House
from control_plane.storage import reads


class LogLedger(Protocol):
    """Whose logs they are, how they end, and that they are sealed or gone. Methods raise BanksmanError."""

    async def owner(self, key: AttemptKey) -> LogOwner | None:
        """None: no such attempt, or nobody accepted it."""
        ...

    async def view(self, run_id: RunId) -> LogView | None: ...

    async def unsealed(self, holder: Holder) -> tuple[AttemptKey, ...]:
        """That holder's attempts that are over and whose log is not sealed."""
        ...

    async def seal(self, key: AttemptKey, seal: LogSeal) -> None:
        """Remember, once, that the log gets no more bytes. Committed on return."""
        ...

    async def resized(self, key: AttemptKey, segments: Iterable[LogSegment]) -> None:
        """Remember that these segments of a log take another number of bytes now."""
        ...

    async def abandoned(self, older_than_s: float, limit: int) -> tuple[AttemptKey, ...]:
        """Logs, still not sealed, of attempts that ended longer ago than that; oldest first."""
        ...

    async def expired(self, older_than_s: float, limit: int) -> tuple[AttemptKey, ...]:
        """Sealed logs of runs that settled longer ago than their project keeps them, or else than that; and the oldest
        of projects that have too many bytes of them."""
        ...

    async def oldest(self, limit: int) -> tuple[tuple[AttemptKey, int], ...]:
        """Sealed logs of settled runs with their stored bytes; oldest first."""
        ...

    async def stored_bytes(self) -> int:
        """What all sealed logs take."""
        ...

    async def deleted(self, keys: Iterable[AttemptKey]) -> None:
        """Remember that these logs' bytes are gone."""
        ...


class HouseLedger:
    """The ledger over the control plane's own database."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def owner(self, key: AttemptKey) -> LogOwner | None:
        return await self._house.database.read(partial(reads.log_owner, key=key))

    async def view(self, run_id: RunId) -> LogView | None:
        return await self._house.database.read(partial(reads.log_view, run_id=run_id))

    async def unsealed(self, holder: Holder) -> tuple[AttemptKey, ...]:
        return await self._house.database.read(partial(reads.unsealed_logs, holder=holder))

    async def seal(self, key: AttemptKey, seal: LogSeal) -> None:
        await logs.seal_log(self._house, key, seal)

    async def resized(self, key: AttemptKey, segments: Iterable[LogSegment]) -> None:
        for segment in segments:
            await logs.register_segment(self._house, key, segment)

    async def abandoned(self, older_than_s: float, limit: int) -> tuple[AttemptKey, ...]:
        body = partial(reads.abandoned_logs, before=self._ago(older_than_s), limit=limit)
        return await self._house.database.read(body)

    async def expired(self, older_than_s: float, limit: int) -> tuple[AttemptKey, ...]:
        return await retention.logs_to_go(self._house, Retention(logs_s=older_than_s), limit)

    async def oldest(self, limit: int) -> tuple[tuple[AttemptKey, int], ...]:
        return await self._house.database.read(partial(reads.oldest_logs, limit=limit))

    async def stored_bytes(self) -> int:
        return await self._house.database.read(reads.log_bytes_total)

    async def deleted(self, keys: Iterable[AttemptKey]) -> None:
        for key in keys:
            await logs.log_deleted(self._house, key)

    def _ago(self, seconds: float) -> datetime:
        return self._house.clock.now() - timedelta(seconds=seconds)
