"""The loop that hands runs over: queued runs and free slots in, offers out; and why the others wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from control_plane.dispatch.sessions import Sessions
from control_plane.domain.ids import RunId
from control_plane.domain.run import Run
from control_plane.lifecycle import attempts, placements
from control_plane.lifecycle.house import House
from control_plane.lifecycle.prompt_offers import Prompt, offer_at_once
from control_plane.storage.database import Connection
from control_plane.storage.following import Stir
from control_plane.telemetry import logger

log = logger("dispatch")

# A lost wake-up costs this much.
LONGEST_WAIT_S = 5.0
SHORTEST_WAIT_S = 0.05
AFTER_TROUBLE_S = 1.0
# While no slot is free, new runs are looked at together: only why they wait is new.
NEW_RUNS_TOGETHER_S = 0.2


class Dispatcher:
    """One per server. What is plain it offers behind the verb that made it possible; rounds do the rest."""

    def __init__(self, house: House, sessions: Sessions) -> None:
        self._house, self._sessions = house, sessions
        self._waiting: dict[RunId, str] = {}
        self._shut: dict[str, str] = {}
        self._full = self._empty = False
        # What was settled behind verbs since the round under way began: it may be newer than what that one reads.
        self._overtaken = False
        self._lately: dict[RunId, str] = {}
        # What the last look in a transaction found; of the writer's thread.
        self._no_slot = self._no_run = False

    def waiting_because(self, run: Run) -> str:
        """Why the last round left a run in the queue; empty when it knows nothing of it."""
        groups = (f"all:{run.project_id}", *(place.group for place in run.places))
        shut = (self._shut.get(group, "") for group in groups)
        return self._waiting.get(run.id, "") or next(filter(None, shut), "")

    async def run(self) -> None:
        """Place until cancelled; trouble is logged and the next round comes a little later."""
        watch = self._house.watch
        wakeups, slots, queued = (watch.subscribe(topic) for topic in ("queue", "slots", "queued"))
        with wakeups, slots, queued, self.following():
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

    @contextmanager
    def following(self) -> Iterator[None]:
        """While this lasts, verbs that stir something are followed by what dispatch makes of it."""
        database = self._house.database
        database.follower = self
        try:
            yield
        finally:
            database.follower = None

    def follow(self, connection: Connection, stirs: Stir) -> Prompt | None:
        """Offer what fits, in the transaction of what stirred; None: nothing can, or a round must look."""
        if Stir.SLOT in stirs:
            self._no_slot = False
        if Stir.QUEUED in stirs:
            self._no_run = False
        if self._no_slot or self._no_run:
            return None
        prompt = offer_at_once(self._house, self._sessions, self._sessions.drained, connection)
        if prompt is not None:
            self._no_slot, self._no_run = prompt.full, prompt.empty
        return prompt

    def followed(self, stirs: Stir, prompt: Prompt | None, error: BaseException | None) -> None:
        """Say what was offered; what is not settled with it, a round looks at."""
        if error is not None:
            # What it found has not come true.
            self._no_slot = self._no_run = False
            log.error("nothing could be offered at once", exc_info=error)
        if prompt is not None:
            attempts.told(self._house, prompt.cases)
            if prompt.complete:
                self._settled(prompt)
                return
        topics = {"queue"}
        if Stir.QUEUED in stirs:
            topics.add("queued")
        elif self._empty and error is None:
            # Nobody waits for the slot: it is only remembered.
            topics.clear()
        if Stir.SLOT in stirs:
            topics.add("slots")
        self._house.watch.notify(*topics)

    def _settled(self, prompt: Prompt) -> None:
        self._full, self._empty, self._shut = prompt.full, prompt.empty, dict(prompt.shut)
        # What a round knew of runs further behind still holds, until the next one: it comes within seconds.
        self._overtaken = True
        for known in (self._waiting, self._lately):
            known.update(prompt.waiting)
            for case in prompt.cases:
                known.pop(case.run.id, None)

    async def round(self) -> float:
        """Offer what fits now; returns how long nothing is expected to change by itself, in seconds."""
        # While it looks, nobody may take the queue for empty: what is said to dispatch meanwhile would be lost.
        self._overtaken, self._empty, self._lately = False, False, {}
        placement = await placements.decide(self._house, self._sessions, self._sessions.drained)
        self._waiting, self._shut = {**placement.waiting, **self._lately}, dict(placement.shut)
        self._full = placement.full
        self._empty = placement.empty and (self._empty or not self._overtaken)
        if placement.offers:
            await attempts.offer(self._house, placement.offers)
        wake_s = LONGEST_WAIT_S if placement.wake_s is None else placement.wake_s
        return min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, wake_s))
