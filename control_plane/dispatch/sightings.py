"""What each runner last said of its disk, and from where it spoke: for the operator's eyes, never for a decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from control_plane.domain.copies import replace
from control_plane.domain.ids import AttemptKey, RunId, RunnerId
from control_plane.domain.runner import CloneAlarm, Runner, RunnerAttempt
from control_plane.domain.session import HeldAttempt, HeldPhase, Verdict, VerdictKind
from control_plane.telemetry import logger

log = logger("dispatch")

# Of one runner: attempts, places from where it spoke, alarms.
MOST_ATTEMPTS = 500
MOST_PLACES = 8
MOST_ALARMS = 8
MESSAGE_CHARACTERS = 1_000
_SET_ASIDE = frozenset({HeldPhase.QUARANTINED, HeldPhase.UNKNOWN_SHIM})
# So old an acceptance is in the next list, whatever was on its way.
NEW = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Place:
    """A runner is in one place at a time, and never comes back to one that it left for another."""

    state_directory_id: str
    boot_id: str


@dataclass(slots=True)
class _Sighting:
    credential_generation: int = 0
    # Oldest first.
    places: list[_Place] = field(default_factory=list)
    # Newest first.
    alarms: list[CloneAlarm] = field(default_factory=list)
    held: dict[AttemptKey, HeldAttempt] = field(default_factory=dict)
    unknown: frozenset[AttemptKey] = frozenset()
    listed_at: datetime | None = None


class Sightings:
    """In memory, since the server's start: every Hello and heartbeat says it anew."""

    def __init__(self) -> None:
        self._by_runner: dict[RunnerId, _Sighting] = {}

    def came(self, runner: Runner, at: datetime) -> None:
        """A session begins. An identity that speaks from two places in turn has been copied."""
        seen = self._by_runner.get(runner.id)
        if seen is None or seen.credential_generation != runner.credential_generation:
            # Whoever took the name over with a join token lives elsewhere by right.
            seen = self._by_runner[runner.id] = _Sighting(credential_generation=runner.credential_generation)
        place = _Place(runner.state_directory_id, runner.boot_id)
        last = seen.places[-1] if seen.places else place
        if last.state_directory_id != place.state_directory_id:
            self._alarm(runner, seen, at, f"state directory {place.state_directory_id} after {last.state_directory_id}")
        elif place != last and place in seen.places:
            self._alarm(runner, seen, at, f"boot id {place.boot_id} again, after {last.boot_id}")
        if place in seen.places:
            seen.places.remove(place)
        seen.places = [*seen.places, place][-MOST_PLACES:]

    def listed(
        self, runner_id: RunnerId, held: Iterable[HeldAttempt], verdicts: Iterable[Verdict], at: datetime
    ) -> None:
        """An inventory, or a heartbeat's held set, with what was answered."""
        seen = self._by_runner.setdefault(runner_id, _Sighting())
        seen.listed_at = at
        seen.held = {entry.key: entry for entry in list(held)[:MOST_ATTEMPTS]}
        seen.unknown = frozenset(verdict.key for verdict in verdicts if verdict.kind is VerdictKind.UNKNOWN)

    def of(self, runner: Runner, stored: Iterable[RunnerAttempt]) -> Runner:
        """The runner with its attempts: what is stored of them, joined with what it listed last."""
        seen = self._by_runner.get(runner.id) or _Sighting()
        attempts = {
            AttemptKey(run_id=each.run_id, lease_epoch=each.lease_epoch): replace(each, missing=_left_out(seen, each))
            for each in stored
        }
        for key, entry in seen.held.items():
            if key not in attempts and key not in seen.unknown and entry.phase not in _SET_ASIDE:
                # All that was wanted of it is here; it is being released.
                continue
            known = attempts.get(key) or RunnerAttempt(run_id=key.run_id, lease_epoch=key.lease_epoch)
            attempts[key] = replace(known, phase=entry.phase, missing=False, message=entry.message[:MESSAGE_CHARACTERS])
        return replace(
            runner,
            attempts=tuple(attempts.values())[:MOST_ATTEMPTS],
            unknown_run_ids=tuple(sorted({RunId(key.run_id) for key in seen.unknown})),
            clone_alarms=tuple(seen.alarms),
        )

    def set_aside(self, runner_id: RunnerId, key: AttemptKey) -> str | None:
        """Why the runner has set this attempt's directory aside; None: it has not said that it did."""
        seen = self._by_runner.get(runner_id)
        entry = None if seen is None else seen.held.get(key)
        return None if entry is None or entry.phase not in _SET_ASIDE else entry.message[:MESSAGE_CHARACTERS]

    def _alarm(self, runner: Runner, seen: _Sighting, at: datetime, what: str) -> None:
        log.warning("two hosts use one runner's identity", runner=runner.name, what=what)
        message = f"Two hosts use this identity: it spoke from {what}. Revoke it, and let each host join by itself."
        seen.alarms = [CloneAlarm(at=at, message=message), *seen.alarms][:MOST_ALARMS]


def _left_out(seen: _Sighting, attempt: RunnerAttempt) -> bool:
    """Whether it could have been in the newest list. One that was accepted at that very moment may not yet."""
    if seen.listed_at is None or attempt.accepted_at is None:
        return False
    return seen.listed_at - attempt.accepted_at > NEW
