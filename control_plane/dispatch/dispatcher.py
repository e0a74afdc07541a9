"""The loop that hands runs over: queued runs and free slots in, offers out; and why the others wait."""

from __future__ import annotations

from control_plane.dispatch.sessions import Sessions
from control_plane.domain.ids import RunId
from control_plane.domain.run import Run
from control_plane.lifecycle import attempts, placements
from control_plane.lifecycle.house import House
from control_plane.telemetry import logger

log = logger("dispatch")

# A lost wake-up costs this much.
LONGEST_WAIT_S = 5.0
SHORTEST_WAIT_S = 0.05
AFTER_TROUBLE_S = 1.0
# While no slot is free, new runs are looked at together: only why they wait is new.
NEW_RUNS_TOGETHER_S = 0.2


class Dispatcher:
    """One per server."""

    def __init__(self, house: House, sessions: Sessions) -> None:
        self._house, self._sessions = house, sessions
        self._waiting: dict[RunId, str] = {}
        self._shut: dict[str, str] = {}
        self._full = self._empty = False

    def waiting_because(self, run: Run) -> str:
        """Why the last round left a run in the queue; empty when it knows nothing of it."""
        groups = (f"all:{run.project_id}", *(place.group for place in run.places))
        shut = (self._shut.get(group, "") for group in groups)
        return self._waiting.get(run.id, "") or next(filter(None, shut), "")

    async def run(self) -> None:
        """Place until cancelled; trouble is logged and the next round comes a little later."""
        watch = self._house.watch
        wakeups, slots, queued = (watch.subscribe(topic) for topic in ("queue", "slots", "queued"))
        with wakeups, slots, queued:
            while True:
                # Whatever was said up to here, this round sees.
                queued.take()
                try:
                    pause_s = await self.round()
                except Exception:  # one bad round must not end dispatch
                    log.exception("a round of dispatch failed")
                    pause_s, self._empty = AFTER_TROUBLE_S, False
                woken = await wakeups.wait(pause_s)
                while woken and self._empty and not queued.take():
                    woken = await wakeups.wait(pause_s)
                if woken and self._full:
                    await slots.wait(NEW_RUNS_TOGETHER_S)

    async def round(self) -> float:
        """Offer what fits now; returns how long nothing is expected to change by itself, in seconds."""
        placement = await placements.decide(self._house, self._sessions, self._sessions.drained)
        self._waiting, self._shut = dict(placement.waiting), dict(placement.shut)
        self._full, self._empty = placement.full, placement.empty
        if placement.offers:
            await attempts.offer(self._house, placement.offers)
        wake_s = LONGEST_WAIT_S if placement.wake_s is None else placement.wake_s
        return min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, wake_s))
