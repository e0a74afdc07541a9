"""Calls that wait or follow for long: how many one caller may have open, and what ends them before their time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from control_plane.domain.errors import (
    BanksmanError,
    ErrorCode,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from control_plane.domain.principal import Caller
from control_plane.telemetry import logger

log = logger("api")

MOST_EACH = 200


@dataclass(slots=True, kw_only=True, eq=False)
class Visit:
    """One open call. `ended_by` is what its caller is told once it has been cancelled for that."""

    task: asyncio.Task[Any]
    authorization: str = field(repr=False)
    caller: Caller | None
    ended_by: BanksmanError | None = None
    # gRPC has a message of it in hand. A cancel would hit gRPC then, and the caller would never hear of the end.
    writing: bool = False

    def end(self, why: BanksmanError) -> None:
        """Serve it no longer; the first reason counts."""
        if self.ended_by is None:
            self.ended_by = why
            if not self.writing:
                self.task.cancel()

    def written(self) -> None:
        """The message has gone out. Raises what the visit was ended with meanwhile."""
        self.writing = False
        if self.ended_by is not None:
            raise self.ended_by


class Visits:
    """Every open call that waits or follows; they hold nothing that must be finished.

    Args:
        most_each: how many one principal (without one: one peer) may have open at a time.
    """

    def __init__(self, *, most_each: int = MOST_EACH) -> None:
        self._most_each = most_each
        self._open: set[Visit] = set()
        self._counts: Counter[str] = Counter()

    @contextlib.contextmanager
    def visit(self, *, authorization: str, caller: Caller | None, peer: str) -> Iterator[Visit]:
        """Around the serving of one call, in its task.

        Raises ResourceExhausted TOO_MANY_STREAMS, and what the visit was ended with.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is always served by a task")
        who = f"peer {peer}" if caller is None else caller.principal.id
        if self._counts[who] >= self._most_each:
            raise ResourceExhausted(
                ErrorCode.TOO_MANY_STREAMS,
                f"At most {self._most_each} calls that watch, follow or wait may be open at a time for one caller.",
                hint="Close some of them, or watch a whole project with one WatchRuns instead of run by run.",
            )
        visit = Visit(task=task, authorization=authorization, caller=caller)
        self._open.add(visit)
        self._counts[who] += 1
        try:
            yield visit
        except asyncio.CancelledError:
            if visit.ended_by is None:
                raise
            task.uncancel()
            raise visit.ended_by from None
        finally:
            self._open.discard(visit)
            self._counts[who] -= 1
            if not self._counts[who]:
                del self._counts[who]

    def end_all(self) -> None:
        """The server stops: every caller is told to come again."""
        for visit in list(self._open):
            visit.end(Unavailable(ErrorCode.SHUTTING_DOWN))

    async def recheck(self, authenticate: Callable[[str], Awaitable[Caller]]) -> None:
        """Ask again who the callers are; who lost its access, or has another by now, is not served any longer."""
        for authorization in {visit.authorization for visit in self._open if visit.caller is not None}:
            now: Caller | BanksmanError
            try:
                now = await authenticate(authorization)
            except (Unauthenticated, PermissionDenied) as error:
                now = error
            except BanksmanError as error:
                log.warning("open calls could not be checked again", error=str(error))
                return
            for visit in [visit for visit in self._open if visit.authorization == authorization]:
                _settle(visit, now)


def _settle(visit: Visit, now: Caller | BanksmanError) -> None:
    if isinstance(now, BanksmanError):
        visit.end(now)
    elif visit.caller is not None and now.principal != visit.caller.principal:
        visit.end(Unavailable(ErrorCode.ACCESS_CHANGED))
