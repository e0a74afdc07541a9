"""Copies are what the library's own would be."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.domain.attempt import Attempt, AttemptState
from control_plane.domain.copies import is_plain, replace
from control_plane.domain.run import Run, RunState, TriggerType
from control_plane.domain.session import ExitOutcome, ExitRecord

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RUN = Run(
    id="r",  # type: ignore[arg-type]
    project_id="p",  # type: ignore[arg-type]
    state=RunState.QUEUED,
    spec_sha256="s",
    trigger_type=TriggerType.API,
    created_by="c",  # type: ignore[arg-type]
    created_at=NOW,
)
ATTEMPT = Attempt(
    run_id=RUN.id,
    lease_epoch=1,  # type: ignore[arg-type]
    runner_id="h",  # type: ignore[arg-type]
    state=AttemptState.OFFERED,
    number=1,
    slots=1,
    offered_at=NOW,
)


@dataclasses.dataclass(frozen=True)
class Open:
    """Has no slots."""

    a: int
    b: int = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """Refuses some values."""

    a: int

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("below zero")


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (RUN, {}),
        (RUN, {"state": RunState.RUNNING, "started_at": NOW + timedelta(seconds=1)}),
        (ATTEMPT, {"state": AttemptState.STARTING, "assigned_at": NOW}),
        (ExitRecord(outcome=ExitOutcome.ENDED_WELL), {"exit_code": 3}),
        (Open(a=1), {"b": 3}),
        (Checked(a=1), {"a": 3}),
    ],
)
def test_a_copy_is_the_librarys(value: object, changes: dict[str, object]) -> None:
    made = replace(value, **changes)  # type: ignore[type-var]
    assert made == dataclasses.replace(value, **changes)  # type: ignore[type-var]
    assert type(made) is type(value)
    assert made is not value


def test_the_value_itself_stays_as_it_was() -> None:
    before = dataclasses.asdict(RUN)
    replace(RUN, state=RunState.LOST)
    assert dataclasses.asdict(RUN) == before


def test_a_copy_is_frozen_and_hashable_like_every_other() -> None:
    made = replace(ATTEMPT, pid=7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.pid = 8  # type: ignore[misc]
    assert hash(made.key) == hash(ATTEMPT.key)


@pytest.mark.parametrize("value", [RUN, Open(a=1), Checked(a=1)])
def test_an_unknown_field_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        replace(value, colour="red")  # type: ignore[type-var]


def test_what_checks_its_fields_still_does() -> None:
    assert is_plain(Run)
    assert is_plain(Attempt)
    assert not is_plain(Open)
    assert not is_plain(Checked)
    with pytest.raises(ValueError, match="below zero"):
        replace(Checked(a=1), a=-1)
