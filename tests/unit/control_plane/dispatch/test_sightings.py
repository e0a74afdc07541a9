"""What is remembered of runners for the operator: what they listed, what they set aside, and signs of a copy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.dispatch.sightings import MOST_ALARMS, MOST_ATTEMPTS, Sightings
from control_plane.domain.attempt import AttemptState
from control_plane.domain.ids import AttemptKey, RunId, RunnerId
from control_plane.domain.runner import Runner, RunnerAttempt
from control_plane.domain.session import HeldAttempt, HeldPhase, Verdict, VerdictKind

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOST = Runner(
    id=RunnerId("r1"), name="host", state_directory_id="d1", boot_id="b1", created_at=NOW, credential_generation=1
)


def entry(run: str, phase: HeldPhase, message: str = "") -> HeldAttempt:
    return HeldAttempt(key=AttemptKey(run_id=RunId(run), lease_epoch=1), phase=phase, message=message)


def stored(run: str, accepted: float = -60.0) -> RunnerAttempt:
    at = NOW + timedelta(seconds=accepted)
    return RunnerAttempt(run_id=RunId(run), lease_epoch=1, state=AttemptState.RUNNING, accepted_at=at)


def test_what_is_stored_is_joined_with_what_was_listed() -> None:
    sightings = Sightings()
    quarantined = entry("a", HeldPhase.QUARANTINED, "no JSON" * 1_000)
    unknown = entry("x", HeldPhase.RUNNING)
    verdicts = [Verdict(key=unknown.key, kind=VerdictKind.UNKNOWN)]
    over = entry("over", HeldPhase.EXITED)
    sightings.listed(HOST.id, [quarantined, unknown, over], verdicts, NOW)
    shown = sightings.of(HOST, [stored("a"), stored("b"), stored("new", accepted=-0.5)])
    by_run = {attempt.run_id: attempt for attempt in shown.attempts}
    assert set(by_run) == {"a", "b", "new", "x"}
    assert (by_run[RunId("a")].phase, len(by_run[RunId("a")].message)) == (HeldPhase.QUARANTINED, 1_000)
    assert [run for run, attempt in by_run.items() if attempt.missing] == ["b"]
    assert by_run[RunId("x")].state is None
    assert shown.unknown_run_ids == ("x",)
    sightings.listed(HOST.id, [], [], NOW)
    assert sightings.of(HOST, []).attempts == ()


def test_a_directory_set_aside_stays_in_sight_when_nothing_is_wanted_of_it() -> None:
    sightings = Sightings()
    sightings.listed(HOST.id, [entry("a", HeldPhase.QUARANTINED, "why")], [], NOW)
    assert [attempt.message for attempt in sightings.of(HOST, []).attempts] == ["why"]


def test_nothing_is_missing_before_anything_was_listed() -> None:
    assert not sightings_of([stored("a")])[0].missing


def sightings_of(attempts: list[RunnerAttempt]) -> tuple[RunnerAttempt, ...]:
    return Sightings().of(HOST, attempts).attempts


@pytest.mark.parametrize(
    ("places", "alarms"),
    [
        ([("d1", "b1"), ("d1", "b1"), ("d1", "b2"), ("d1", "b3")], 0),
        ([("d1", "b1"), ("d2", "b1")], 1),
        ([("d1", "b1"), ("d1", "b2"), ("d1", "b1")], 1),
        ([("d1", "b1"), ("d1", "b2"), ("d1", "b1"), ("d1", "b2")], 2),
        ([("d1", "b1"), ("d2", "b2")] * 20, MOST_ALARMS),
    ],
)
def test_an_identity_in_two_places_raises_an_alarm(places: list[tuple[str, str]], alarms: int) -> None:
    sightings = Sightings()
    for second, (directory, boot) in enumerate(places):
        came = replace(HOST, state_directory_id=directory, boot_id=boot)
        sightings.came(came, NOW + timedelta(seconds=second))
    raised = sightings.of(HOST, []).clone_alarms
    assert len(raised) == alarms
    assert [alarm.at for alarm in raised] == sorted((alarm.at for alarm in raised), reverse=True)


def test_a_host_that_took_the_name_over_by_right_raises_none() -> None:
    sightings = Sightings()
    sightings.came(HOST, NOW)
    sightings.came(replace(HOST, state_directory_id="d2", credential_generation=2), NOW)
    assert sightings.of(HOST, []).clone_alarms == ()


def test_memory_is_bounded() -> None:
    sightings = Sightings()
    many = [entry(f"run-{number}", HeldPhase.QUARANTINED) for number in range(MOST_ATTEMPTS + 1)]
    sightings.listed(HOST.id, many, [], NOW)
    assert len(sightings.of(HOST, [stored("a")]).attempts) == MOST_ATTEMPTS
