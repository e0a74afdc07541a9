"""Reading logs as they grow: replay from a point, then follow, across retries, up to the run's end.

A reader holds an offset and one batch, never a queue: each wake-up makes it read the store again from where it is. So
nothing is lost or told twice between replay and follow, and a slow reader delays nobody.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from control_plane.clock import Clock
from control_plane.domain.errors import ErrorCode, FieldViolation, NotFound, OutOfRange, invalid_fields
from control_plane.domain.ids import AttemptKey
from control_plane.domain.logs import LogAttempt, LogBatch, LogEnd, LogItem, LogQuery, LogStart, LogView
from control_plane.logs.ledger import LogLedger
from control_plane.logs.lines import offset_of_last_lines, offset_of_time
from control_plane.logs.sharing import Followers
from control_plane.logs.store import Cursor, LogMissing, LogRead, LogStore
from control_plane.logs.streams import log_topic
from control_plane.watch import Subscription, Watch

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TailSettings:
    """`incomplete_after_s`: a finished attempt whose log is not sealed is waited for so long after its last byte."""

    batch_bytes: int = 256 << 10
    incomplete_after_s: float = 10.0
    threads: int = 4


class Tail:
    """Serves any number of readers; their reads share a few threads."""

    def __init__(
        self, *, ledger: LogLedger, store: LogStore, watch: Watch, clock: Clock, settings: TailSettings | None = None
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._watch = watch
        self._clock = clock
        self._settings = settings or TailSettings()
        self._threads = ThreadPoolExecutor(self._settings.threads, thread_name_prefix="log-reader")
        self.followers = Followers(self.read)

    def close(self) -> None:
        """Give the threads back."""
        self._threads.shutdown()

    async def follow(self, query: LogQuery) -> AsyncGenerator[LogItem, None]:
        """The items of a log: starts and batches, and a LogEnd as the last one.

        Without `follow` it ends at what is stored now. Close the iterator when the reader leaves (`aclosing`).
        Raises InvalidArgument, NotFound, OutOfRange (LOG_EXPIRED, OFFSET_BEYOND_END).
        """
        _check(query)
        with self._watch.subscribe(f"run:{query.run_id}") as run_changed:
            view = await self._view(query)
            attempt = _first(view, query)
            while attempt is None and query.follow and not view.terminal:
                await run_changed.wait()
                view = await self._view(query)
                attempt = _first(view, query)
            offset: int | None = None
            while attempt is not None:
                reading = _Reading(self, query, view, attempt, run_changed)
                async with aclosing(reading.items(offset)) as items:
                    async for item in items:
                        yield item
                view, offset = reading.view, 0
                following = view.after(attempt.lease_epoch) if query.follow else None
                while following is None and query.follow and not view.terminal:
                    await run_changed.wait()
                    view = await self._view(query)
                    following = view.after(attempt.lease_epoch)
                if following is None:
                    yield await self._end(view, view.attempt(attempt.lease_epoch) or attempt, reading)
                    return
                attempt = following
            yield _end_without_log(view)

    async def _view(self, query: LogQuery) -> LogView:
        view = await self._ledger.view(query.run_id)
        if view is None:
            raise NotFound(ErrorCode.RUN_NOT_FOUND)
        return view

    async def _end(self, view: LogView, attempt: LogAttempt, reading: "_Reading") -> LogEnd:
        sealed = attempt.sealed
        return LogEnd(
            lease_epoch=attempt.lease_epoch,
            state=view.state,
            reason=view.reason,
            exit_code=attempt.exit_code,
            bytes=attempt.bytes if sealed else reading.stored_end,
            digest=attempt.digest if sealed else "",
            complete=(attempt.complete if sealed else not attempt.finished) and not reading.damaged,
        )

    # -- for one reading ----------------------------------------------------------------------------------------------

    def subscribe(self, key: AttemptKey, run_id: str) -> Subscription:
        """Woken by bytes, and by the run's changes too."""
        return self._watch.subscribe(log_topic(key), f"run:{run_id}")

    async def view(self, query: LogQuery) -> LogView:
        """The run as it is now. Raises NotFound."""
        return await self._view(query)

    async def read(self, key: AttemptKey, offset: int, cursor: Cursor | None) -> LogRead:
        """The next batch from the store. Raises OutOfRange LOG_EXPIRED."""
        try:
            body = partial(self._store.read, key, offset, self._settings.batch_bytes, cursor)
            return await self.in_thread(body)
        except LogMissing:
            raise OutOfRange(ErrorCode.LOG_EXPIRED) from None

    async def start_of(self, key: AttemptKey, query: LogQuery) -> int:
        """The offset at which the query begins."""
        if query.tail_lines is not None:
            body = partial(offset_of_last_lines, self._store, key, query.tail_lines, query.wants)
        elif query.since is not None:
            body = partial(offset_of_time, self._store, key, query.since)
        else:
            return query.from_offset or 0
        return await self.in_thread(body)

    async def stored_end(self, key: AttemptKey) -> int:
        """The committed end."""
        return await self.in_thread(partial(self._store.end, key))

    async def in_thread(self, body: Callable[[], T]) -> T:
        """Run something that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, body)

    def patience(self) -> "_Patience":
        """How long to wait for bytes of an attempt that is over."""
        return _Patience(self._clock, self._settings.incomplete_after_s)


class _Patience:
    """Time since the last byte, as far as the clock tells."""

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._since: float | None = None

    def renew(self) -> None:
        self._since = None

    def left_s(self) -> float:
        """Seconds left; the first call after a renewal begins to count."""
        now = self._clock.monotonic_s()
        if self._since is None:
            self._since = now
        return self._limit_s - (now - self._since)


class _Reading:
    """One attempt's log, from a point up to where it ends for this reader."""

    def __init__(
        self, tail: Tail, query: LogQuery, view: LogView, attempt: LogAttempt, run_changed: Subscription
    ) -> None:
        self._tail = tail
        self._query = query
        self._run_changed = run_changed
        self._key = AttemptKey(run_id=query.run_id, lease_epoch=attempt.lease_epoch)
        self._attempt = attempt
        self._offset = 0
        self._cursor: Cursor | None = None
        self.view = view
        self.stored_end = 0
        self.damaged = False

    async def items(self, offset: int | None) -> AsyncGenerator[LogItem, None]:
        """Starts and batches; ends where nothing more will come, or will be waited for."""
        if self._attempt.deleted:
            raise OutOfRange(ErrorCode.LOG_EXPIRED)
        followers = self._tail.followers
        with self._tail.subscribe(self._key, self._query.run_id) as changed, followers.following(self._key):
            self._offset = await self._tail.start_of(self._key, self._query) if offset is None else offset
            if self._offset == 0:
                yield LogStart(lease_epoch=self._attempt.lease_epoch, attempt_number=self._attempt.number)
            patience = self._tail.patience()
            while True:
                found = await followers.read(self._key, self._offset, self._cursor)
                if found.records:
                    patience.renew()
                    yield self._batch(found)
                elif self._attempt.sealed or not self._query.follow:
                    break
                elif await self._news():
                    continue
                elif not self._attempt.finished:
                    await changed.wait()
                    if (pause_s := followers.pause_s(self._key)) > 0:
                        await asyncio.sleep(pause_s)
                elif patience.left_s() <= 0 or not await changed.wait(patience.left_s()):
                    await self._look()
                    if not self._attempt.sealed:
                        break
        await self._check_end()

    async def _news(self) -> bool:
        """Whether the log has been sealed meanwhile: then what came last is still to be read.

        Only a change of the run is worth a look into the database; bytes alone are not.
        """
        if await self._run_changed.wait(0):
            await self._look()
        return self._attempt.sealed

    async def _look(self) -> None:
        self.view = await self._tail.view(self._query)
        self._attempt = self.view.attempt(self._key.lease_epoch) or self._attempt
        if self._attempt.deleted:
            raise OutOfRange(ErrorCode.LOG_EXPIRED)

    def _batch(self, found: LogRead) -> LogBatch:
        batch = LogBatch(
            lease_epoch=self._key.lease_epoch,
            offset=self._offset,
            next_offset=found.next_offset,
            records=self._query.wanted(found.records),
        )
        self._offset, self._cursor = found.next_offset, found.cursor
        self.damaged = self.damaged or found.damaged
        return batch

    async def _check_end(self) -> None:
        self.stored_end = await self._tail.stored_end(self._key)
        wanted_end = self._attempt.bytes if self._attempt.sealed else self.stored_end
        self.damaged = self.damaged or self.stored_end < wanted_end
        if self._offset > max(wanted_end, self.stored_end):
            raise OutOfRange(ErrorCode.OFFSET_BEYOND_END)


def _check(query: LogQuery) -> None:
    wrong: list[FieldViolation] = []
    if query.from_offset is not None and query.from_offset < 0:
        wrong.append(FieldViolation(field="from_offset", description="it must not be negative"))
    if query.tail_lines is not None and query.tail_lines < 0:
        wrong.append(FieldViolation(field="tail_lines", description="it must not be negative"))
    if query.lease_epoch < 0:
        wrong.append(FieldViolation(field="lease_epoch", description="it must not be negative"))
    if wrong:
        raise invalid_fields(*wrong)


def _first(view: LogView, query: LogQuery) -> LogAttempt | None:
    """The attempt to begin with. Raises NotFound ATTEMPT_NOT_FOUND."""
    if query.lease_epoch == 0:
        return view.attempts[-1] if view.attempts else None
    attempt = view.attempt(query.lease_epoch)
    if attempt is None:
        raise NotFound(ErrorCode.ATTEMPT_NOT_FOUND)
    return attempt


def _end_without_log(view: LogView) -> LogEnd:
    return LogEnd(
        lease_epoch=0,
        state=view.state,
        reason=view.reason,
        exit_code=view.exit_code,
        bytes=0,
        digest="",
        complete=True,
    )
