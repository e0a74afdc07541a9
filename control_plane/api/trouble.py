"""What stands between an operator and a run: is its host reached, when is it given up, what frees it by hand."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.dispatch.sessions import Sessions
from control_plane.dispatch.sightings import Sightings
from control_plane.domain.attempt import ATTEMPT_HELD, Attempt, Connectivity
from control_plane.domain.run import Remedy, Run
from control_plane.lifecycle.house import House


class Trouble:
    """Looks at the live sessions, at what runners listed last, and at the loss clocks."""

    def __init__(self, house: House, sessions: Sessions, sightings: Sightings) -> None:
        self._house, self._sessions, self._sightings = house, sessions, sightings

    def shown(self, run: Run) -> Run:
        """The run with its attempts as they are reached now, and with what helps where they are not."""
        attempts = tuple(self._attempt(attempt) for attempt in run.attempts)
        return replace(run, attempts=attempts, remedies=self._remedies(run, attempts))

    def _attempt(self, attempt: Attempt) -> Attempt:
        if attempt.state not in ATTEMPT_HELD:
            return attempt
        reached = self._connectivity(attempt)
        given_up_at = None if reached is Connectivity.CONNECTED else self._given_up_at(attempt)
        message = self._sightings.set_aside(attempt.runner_id, attempt.key) or ""
        return replace(attempt, connectivity=reached, given_up_at=given_up_at, host_message=message)

    def _connectivity(self, attempt: Attempt) -> Connectivity:
        session = self._sessions.get(attempt.runner_id)
        if session is None:
            return Connectivity.DISCONNECTED
        if session.holder != attempt.holder:
            return Connectivity.HOLDER_AWAY
        if self._sightings.set_aside(attempt.runner_id, attempt.key) is not None:
            return Connectivity.SET_ASIDE
        renewed_s = self._house.clocks.renewed_s(attempt.key)
        lease_s = self._house.timing.lease_s(len(self._sessions))
        if renewed_s is not None and self._house.clock.monotonic_s() - renewed_s > lease_s:
            return Connectivity.NOT_RENEWED
        return Connectivity.CONNECTED

    def _given_up_at(self, attempt: Attempt) -> datetime | None:
        """The loss clock is a monotonic one; by the wall clock this is where it stands now."""
        lost_at_s = self._house.clocks.lost_at_s(attempt.key)
        if lost_at_s is None:
            return None
        left_s = max(0.0, lost_at_s - self._house.clock.monotonic_s())
        return self._house.clock.now() + timedelta(seconds=left_s)

    def _remedies(self, run: Run, attempts: tuple[Attempt, ...]) -> tuple[Remedy, ...]:
        held = next((each for each in attempts if each.connectivity is not None), None)
        if held is not None:
            return _of_live(run, held)
        owing = next((each for each in attempts if self._owes_its_log(each)), None)
        if owing is None:
            return ()
        effect = "Only if that host is gone for good: its logs are sealed with what is there. For admins."
        return (Remedy(command=_mark_lost(owing, dead=True), effect=effect),)

    def _owes_its_log(self, attempt: Attempt) -> bool:
        over = not attempt.is_live and attempt.assigned_at is not None and attempt.log_sealed_at is None
        return over and self._sessions.get(attempt.runner_id) is None


def _of_live(run: Run, attempt: Attempt) -> tuple[Remedy, ...]:
    if attempt.connectivity is Connectivity.CONNECTED:
        return ()
    force = f"banksman run cancel {run.id} --force"
    if attempt.connectivity is Connectivity.SET_ASIDE:
        return (Remedy(command=force, effect="This run is CANCELLED at once; its directory stays where it is."),)
    at_last = Remedy(
        command=force,
        effect="This run is CANCELLED at once. Its host ends what is left when it hears of it, and only then has its"
        " slot free.",
    )
    if attempt.connectivity is not Connectivity.DISCONNECTED:
        return (at_last,)
    lost = Remedy(
        command=_mark_lost(attempt, dead=False),
        effect="Every run of this runner is LOST at once, none is tried again. For admins.",
    )
    dead = Remedy(
        command=_mark_lost(attempt, dead=True),
        effect="Only if no process of that host can live: as above, runs with on_lost retry are tried again, and its"
        " logs are sealed with what is there. For admins.",
    )
    return (at_last, lost, dead)


def _mark_lost(attempt: Attempt, *, dead: bool) -> str:
    name = shlex.quote(attempt.runner_name or attempt.runner_id)
    return f"banksman runner mark-lost {name}{' --host-is-dead' if dead else ''}"
