"""`changed` is dataclasses.replace, and nothing else, for every kind of value that decisions change."""

from __future__ import annotations

import dataclasses

import pytest

from runner_agent.domain.changes import changed
from runner_agent.domain.held import Held, Phase
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.domain.state import AgentState, Identity, Session, SessionPhase

KEY = AttemptKey(run_id=RunId("run"), lease_epoch=3)


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (Held(key=KEY, phase=Phase.ACCEPTED, slots=2), {"phase": Phase.RUNNING, "pid": 7}),
        (Held(key=KEY, phase=Phase.ACCEPTED), {}),
        (Session(seq=4), {"phase": SessionPhase.WELCOMED}),
        (AgentState(identity=Identity(agent_version="1")), {"load": 0.5, "held": {}}),
        (KEY, {"lease_epoch": 4}),
    ],
)
def test_it_is_what_replace_makes(value: Held, changes: dict[str, object]) -> None:
    before = dataclasses.asdict(value)
    made = changed(value, **changes)  # type: ignore[arg-type]
    assert made == dataclasses.replace(value, **changes)  # type: ignore[arg-type]
    assert hash(type(made)) == hash(type(value))
    assert dataclasses.asdict(value) == before, "the value itself stays as it was"


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="'colour'"):
        changed(Session(), colour="red")  # type: ignore[call-arg]


def test_what_is_made_is_frozen_too() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        changed(Session(), seq=1).seq = 2  # type: ignore[misc]
