"""The server's clocks over attempts: offer, start, stop and loss. Monotonic seconds, in memory, never stored.

Loss clocks start anew at each server start and after the server's own pause: a deadline that was stored, or that ran
while nobody could hear the runner, could pass while the old process still lives.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from control_plane.domain.attempt import Attempt, AttemptState, StopPhase
from control_plane.domain.copies import replace
from control_plane.domain.ids import AttemptKey
from control_plane.domain.limits import DEFAULT_START_TIMEOUT_S
from control_plane.domain.loss import freed_after_s
from control_plane.domain.spec import RunSpec
from control_plane.domain.timing import Timing


class Ring(StrEnum):
    """Which clock ran out."""

    OFFER = "OFFER"
    START = "START"
    STOP_SILENT = "STOP_SILENT"
    LOSS = "LOSS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    key: AttemptKey
    ring: Ring


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptClock:
    """Bases and lengths for one attempt; a base of None: that clock is off. freed_after_s None: never lost."""

    freed_after_s: float | None
    start_timeout_s: float
    offered_s: float | None = None
    starting_s: float | None = None
    stop_heard_s: float | None = None
    renewed_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Clocks:
    """All clocks of one server. `tick` is called about once a second; the caller decides what an alarm does."""

    timing: Timing
    last_tick_s: float | None = None
    _attempts: dict[AttemptKey, AttemptClock] = field(default_factory=dict)

    def follow(self, attempt: Attempt, spec: RunSpec, now_s: float) -> None:
        """Take an attempt as it is stored now: a new state sets the clocks of that state, a finished one has none."""
        if not attempt.is_live:
            self._attempts.pop(attempt.key, None)
            return
        grace_s = 0.0 if attempt.stop is None else attempt.stop.grace_s
        known = self._attempts.get(attempt.key) or AttemptClock(freed_after_s=None, start_timeout_s=0.0)
        offered = attempt.state is AttemptState.OFFERED
        starting = attempt.state is AttemptState.STARTING
        # Once the host confirmed a stop, its heartbeats' verdicts are enough to say it again.
        unheard = attempt.stop is not None and attempt.stop.phase is StopPhase.REQUESTED
        stopping = attempt.state is AttemptState.STOPPING and unheard
        timeout_s = DEFAULT_START_TIMEOUT_S if spec.start_timeout_s is None else spec.start_timeout_s
        self._attempts[attempt.key] = AttemptClock(
            freed_after_s=freed_after_s(spec, self.timing, grace_s),
            start_timeout_s=timeout_s,
            offered_s=_base(known.offered_s, now_s) if offered else None,
            starting_s=_base(known.starting_s, now_s) if starting else None,
            stop_heard_s=_base(known.stop_heard_s, now_s) if stopping else None,
            renewed_s=None if offered else _base(known.renewed_s, now_s),
        )

    def renew(self, key: AttemptKey, now_s: float) -> None:
        """The runner listed the attempt and was answered that this renews it."""
        known = self._attempts.get(key)
        if known is not None and known.renewed_s is not None:
            self._attempts[key] = replace(known, renewed_s=now_s)

    def stop_heard(self, key: AttemptKey, now_s: float) -> None:
        """A sign of life of a stop, or the stop was just sent again."""
        known = self._attempts.get(key)
        if known is not None and known.stop_heard_s is not None:
            self._attempts[key] = replace(known, stop_heard_s=now_s)

    def forget(self, key: AttemptKey) -> None:
        self._attempts.pop(key, None)

    def restart_loss(self, now_s: float) -> None:
        for key, clock in self._attempts.items():
            if clock.renewed_s is not None:
                self._attempts[key] = replace(clock, renewed_s=now_s)

    def lost_at_s(self, key: AttemptKey) -> float | None:
        """When the attempt is given up if nothing renews it; None: never, or not followed."""
        clock = self._attempts.get(key)
        if clock is None or clock.renewed_s is None or clock.freed_after_s is None:
            return None
        return clock.renewed_s + clock.freed_after_s

    def renewed_s(self, key: AttemptKey) -> float | None:
        """When its runner spoke for it last, or its loss clock began; None: not followed, or nobody accepted it."""
        clock = self._attempts.get(key)
        return None if clock is None else clock.renewed_s

    def tick(self, now_s: float, period_s: float = 1.0) -> tuple[Alarm, ...]:
        """Alarms that are due; each is rung again at the next tick until the attempt has moved."""
        # The first tick is the first sign of life: how long the server stood still before it, nobody knows.
        paused = self.last_tick_s is None or now_s - self.last_tick_s > period_s + self.timing.pause_s
        self.last_tick_s = now_s
        if paused:
            self.restart_loss(now_s)
        alarms = (self._ring(key, clock, now_s) for key, clock in self._attempts.items())
        return tuple(alarm for alarm in alarms if alarm is not None)

    def _ring(self, key: AttemptKey, clock: AttemptClock, now_s: float) -> Alarm | None:
        if clock.offered_s is not None and now_s >= clock.offered_s + self.timing.offer_s:
            return Alarm(key=key, ring=Ring.OFFER)
        lost_at_s = self.lost_at_s(key)
        if lost_at_s is not None and now_s >= lost_at_s:
            return Alarm(key=key, ring=Ring.LOSS)
        if clock.starting_s is not None and now_s >= clock.starting_s + clock.start_timeout_s:
            return Alarm(key=key, ring=Ring.START)
        if clock.stop_heard_s is not None and now_s >= clock.stop_heard_s + self.timing.stop_resend_s:
            return Alarm(key=key, ring=Ring.STOP_SILENT)
        return None


def _base(known_s: float | None, now_s: float) -> float:
    return now_s if known_s is None else known_s
