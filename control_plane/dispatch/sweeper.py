"""One task, once a second by the monotonic clock: lease, loss, offer, start, stop, queue, deadline and retry clocks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from control_plane.dispatch.sessions import Sessions
from control_plane.domain.errors import BanksmanError
from control_plane.lifecycle import clocks, runners
from control_plane.lifecycle.house import House
from control_plane.telemetry import logger

log = logger("dispatch")

PERIOD_S = 1.0
# Wall time may drift so far from monotonic time between two looks before it counts as a step.
STEP_S = 1.0


class Sweeper:
    """Ticks the clocks, and notices when wall time was set.

    Args:
        stepped: what to do about a step of the wall clock; gets its size in seconds.
    """

    def __init__(self, house: House, sessions: Sessions, *, stepped: Callable[[float], Awaitable[None]]) -> None:
        self._house, self._sessions, self._stepped = house, sessions, stepped
        self._base_s = self._difference_s()
        self._last_s = house.clock.monotonic_s()

    async def run(self) -> None:
        """Tick until cancelled. What fails in one tick is logged and comes again in the next."""
        while True:
            await asyncio.sleep(PERIOD_S)
            await self.tick()

    async def tick(self) -> None:
        """One tick; the clocks themselves notice if it comes too late."""
        for part in (self._compare, self._silence, self._pay, self._ring):
            try:
                await part()
            except Exception:  # one bad part must stop neither the others nor the next tick
                log.exception("a tick failed", part=part.__name__.strip("_"))

    async def _compare(self) -> None:
        step_s = self._difference_s() - self._base_s
        if abs(step_s) <= STEP_S:
            return
        log.warning("the wall clock was set; schedules are armed anew", step_s=round(step_s, 3))
        await self._stepped(step_s)
        self._base_s += step_s

    async def _silence(self) -> None:
        """Sessions whose lease ran out end; after a pause of our own, everybody gets a whole lease again."""
        now_s, timing = self._house.clock.monotonic_s(), self._house.timing
        if now_s - self._last_s > PERIOD_S + timing.pause_s:
            self._sessions.heard_all(now_s)
        self._last_s = now_s
        self._sessions.end_silent(now_s, timing.lease_s(len(self._sessions)))

    async def _pay(self) -> None:
        """Store the ends of sessions that the database could not be told when they came."""
        for runner_id, epoch in self._sessions.take_owed().items():
            if epoch is None and not self._sessions.is_away(runner_id):
                # Its newer session has stored its own beginning, and will store its end.
                continue
            try:
                await runners.disconnect(self._house, runner_id, epoch)
            except BanksmanError as error:
                self._sessions.owe(runner_id, epoch)
                log.warning("the end of a session is stored later", runner=runner_id, error=str(error))
            except Exception:  # the others' ends are stored all the same
                self._sessions.owe(runner_id, epoch)
                log.exception("the end of a session could not be stored", runner=runner_id)

    async def _ring(self) -> None:
        await clocks.tick(self._house, PERIOD_S)

    def _difference_s(self) -> float:
        return self._house.clock.now().timestamp() - self._house.clock.monotonic_s()
