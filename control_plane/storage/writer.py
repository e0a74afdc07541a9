"""The writer thread: many verbs in one transaction, answered after the commit.

A savepoint around each verb would cost as much as a small verb itself. So there is none: a verb that is refused before
it has written anything leaves nothing behind. One that is refused later undoes the whole transaction, which then runs
again with savepoints, so that it loses its own changes only.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from control_plane.domain.errors import BanksmanError, ErrorCode, ResourceExhausted, Unavailable
from control_plane.storage.following import Follower, Stir
from control_plane.storage.prepared import Prepared
from control_plane.storage.sqlite import Trouble

MAX_VERBS: Final = 64
MAX_S: Final = 0.020
# So long a verb for which nobody waits is kept for company.
PATIENCE_S: Final = 0.005
MAX_RUNS: Final = 4

_SAVEPOINT: Final = Prepared(text("SAVEPOINT verb"))
_ROLL_BACK: Final = Prepared(text("ROLLBACK TO SAVEPOINT verb"))
_RELEASE: Final = Prepared(text("RELEASE SAVEPOINT verb"))


@dataclass(slots=True, kw_only=True, eq=False)
class Verb:
    """One queued call: what to do, and where its answer goes."""

    body: Callable[[Connection], Any]
    name: str
    loop: asyncio.AbstractEventLoop
    # None: nobody asked, it follows others.
    future: asyncio.Future[Any] | None
    # Called on the loop after the commit with the result, also when nobody awaits the answer any more.
    after: Callable[[Any], None] | None
    stirs: Stir = Stir.NOTHING
    follower: Follower | None = None
    # Nobody waits for its commit.
    patient: bool = False
    # Alone and outside a transaction (checkpoints).
    bare: bool = False
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True, kw_only=True)
class Counters:
    """What the writer has done since it started."""

    transactions: int = 0
    commits: int = 0
    verbs: int = 0
    refused: int = 0
    failed: int = 0
    reruns: int = 0
    # Transactions that ran again because a verb was refused after it had written something.
    undone: int = 0
    largest_batch: int = 0
    by_name: dict[str, int] = field(default_factory=dict)


class _Undo(Exception):
    """A verb of this transaction was refused after it had written something."""


class Writer:
    """Owns the one connection that writes. `submit` from the loop; everything else happens in its thread."""

    def __init__(
        self,
        connection: Connection,
        *,
        judge: Callable[[DBAPIError], Trouble],
        changes: Callable[[Connection], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._judge = judge
        self._changes = changes
        self._monotonic_s = monotonic_s
        self._queue: queue.SimpleQueue[Verb | None] = queue.SimpleQueue()
        self._next: Verb | None = None
        self._stopping = False
        self.counters = Counters()
        self.follower: Follower | None = None
        self._thread = threading.Thread(target=self._work, name="storage-writer", daemon=True)
        self._thread.start()

    def submit(self, verb: Verb) -> None:
        self._queue.put(verb)

    def stop(self) -> None:
        """Finishes what is queued, then ends the thread. Blocks."""
        self._queue.put(None)
        self._thread.join()

    def depth(self) -> int:
        return self._queue.qsize()

    def _work(self) -> None:
        while not self._stopping or self._next is not None:
            verb, self._next = self._next or self._queue.get(), None
            if verb is None:
                return
            verbs = [verb]
            if verb.bare:
                self._alone(verb)
            else:
                if verb.patient:
                    self._add(verbs, PATIENCE_S)
                self._together(verbs)
            _answer(verbs)

    def _alone(self, verb: Verb) -> None:
        try:
            verb.result = verb.body(self._connection)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            verb.error = error

    def _together(self, verbs: list[Verb]) -> None:
        """Runs `verbs` and whatever else is waiting in one transaction; leaves each verb's answer on it."""
        run, reruns = self._trusted, 0
        while True:
            try:
                self._transaction(verbs, run)
            except _Undo:
                self.counters.undone += 1
                run = self._in_savepoint
                continue
            except DBAPIError as error:
                trouble = self._judge(error)
                if trouble is Trouble.BROKEN:
                    self._connection.invalidate()  # the next transaction opens the file anew
                if trouble is Trouble.BUSY and reruns < MAX_RUNS - 1:
                    reruns += 1
                    self.counters.reruns += 1
                    continue
                self._fail(verbs, trouble, error)
            except Exception as error:  # noqa: BLE001 - the thread must live on: every later write waits for it
                self._connection.invalidate()
                self._fail(verbs, Trouble.BROKEN, error)
            return

    def _transaction(self, verbs: list[Verb], run: Callable[[Verb], None]) -> None:
        self.counters.transactions += 1
        started = self._monotonic_s()
        done = 0
        with self._connection.begin():
            while done < len(verbs) or self._take(verbs, started) or self._follow(verbs):
                run(verbs[done])
                done += 1
        self.counters.commits += 1
        self.counters.verbs += done
        self.counters.largest_batch = max(self.counters.largest_batch, done)
        for verb in verbs:
            self.counters.by_name[verb.name] = self.counters.by_name.get(verb.name, 0) + 1
            self.counters.refused += verb.error is not None

    def _take(self, verbs: list[Verb], started: float) -> bool:
        """Adds the next waiting verb, if there is one and the transaction is neither too large nor too old."""
        if len(verbs) >= MAX_VERBS or self._monotonic_s() - started >= MAX_S:
            return False
        return self._add(verbs, 0.0)

    def _add(self, verbs: list[Verb], wait_s: float) -> bool:
        if self._next is not None:
            # One that is to run alone waits already: a second one must not take its place.
            return False
        try:
            verb = self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait()
        except queue.Empty:
            return False
        if verb is None:
            self._stopping = True
            return False
        if verb.bare:
            self._next = verb
            return False
        verbs.append(verb)
        return True

    def _follow(self, verbs: list[Verb]) -> bool:
        """Adds the follower behind verbs that stirred something since it was added last."""
        follower, stirs = self.follower, Stir.NOTHING
        if follower is None:
            return False
        for verb in reversed(verbs):
            if verb.future is None:
                break
            if verb.stirs is not Stir.NOTHING:
                stirs |= verb.stirs
        if stirs is Stir.NOTHING:
            return False
        body, loop = partial(follower.follow, stirs=stirs), verbs[-1].loop
        verbs.append(Verb(body=body, name="follow", loop=loop, future=None, after=None, stirs=stirs, follower=follower))
        return True

    def _trusted(self, verb: Verb) -> None:
        before = self._changes(self._connection)
        self._run(verb)
        wrote = self._changes(self._connection) != before
        if verb.error is not None and wrote:
            raise _Undo

    def _in_savepoint(self, verb: Verb) -> None:
        _SAVEPOINT.run(self._connection)
        self._run(verb)
        if verb.error is not None:
            _ROLL_BACK.run(self._connection)
        _RELEASE.run(self._connection)

    def _run(self, verb: Verb) -> None:
        verb.result, verb.error = None, None
        try:
            verb.result = verb.body(self._connection)
        except DBAPIError as error:
            if self._judge(error) is not Trouble.VERB:
                raise
            verb.error = error
        except Exception as error:  # noqa: BLE001 - a refusal or a bug belongs to whoever asked, the others go on
            verb.error = error

    def _fail(self, verbs: list[Verb], trouble: Trouble, cause: Exception) -> None:
        """All verbs of a transaction that was not committed, also those that had been refused on what it held."""
        self.counters.failed += len(verbs)
        for verb in verbs:
            verb.result, verb.error = None, refusal(trouble, cause)


def refusal(trouble: Trouble, cause: Exception) -> BanksmanError:
    """What a caller is told about a database error: nothing was stored, and whether to try again."""
    error: BanksmanError
    if trouble is Trouble.FULL:
        error = ResourceExhausted(ErrorCode.STORAGE_FULL, "The control plane's disk is full; nothing was stored.")
    else:
        error = Unavailable(
            ErrorCode.STORAGE_UNAVAILABLE, "The control plane's database did not answer; nothing was stored."
        )
    error.__cause__ = cause
    return error


def _answer(verbs: list[Verb]) -> None:
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Verb]] = defaultdict(list)
    for verb in verbs:
        by_loop[verb.loop].append(verb)
    for loop, group in by_loop.items():
        loop.call_soon_threadsafe(_deliver, group)


def _deliver(verbs: list[Verb]) -> None:
    # First what goes on from here: the answers to those who asked have their way home, and more time.
    for verb in verbs:
        if verb.follower is not None:
            _call_after(verb, partial(_followed, verb.follower, verb))
        elif verb.error is None and verb.after is not None:
            _call_after(verb, verb.after)
    for verb in verbs:
        future, error = verb.future, verb.error
        # An error knows the frames that it went through, and they know the verb: it must not know the error any more,
        # or what was asked for stays until the garbage collector comes by.
        verb.error = verb.future = None
        if future is None or future.done():  # its caller has gone; the commit stands
            continue
        if error is None:
            future.set_result(verb.result)
        else:
            future.set_exception(error)


def _followed(follower: Follower, verb: Verb, result: Any) -> None:
    error, verb.error = verb.error, None
    follower.followed(verb.stirs, result, error)


def _call_after(verb: Verb, after: Callable[[Any], None]) -> None:
    try:
        after(verb.result)
    except Exception as error:  # noqa: BLE001 - a bug in one must not keep the answers of the others back
        verb.loop.call_exception_handler({"message": f"after the write {verb.name!r}", "exception": error})
