"""Every (state, event) pair of the two tables: the arrow that is written down, or none."""

import pytest

from control_plane.domain.attempt import ATTEMPT_TABLE, ATTEMPT_TERMINAL, AttemptEvent, AttemptState
from control_plane.domain.machine import IllegalTransition, advance
from control_plane.domain.run import RUN_ACTIVE, RUN_TABLE, RUN_TERMINAL, RunEvent, RunState

# A second writing of the tables, by arrow: whoever changes one has to change the other.
RUN_ARROWS = """
QUEUED OFFERED ASSIGNED
QUEUED CANCEL_REQUESTED CANCELLED
QUEUED QUEUE_TIMED_OUT EXPIRED
ASSIGNED STARTED RUNNING
ASSIGNED RETURNED QUEUED
ASSIGNED WILL_RETRY QUEUED
ASSIGNED GAVE_UP FAILED
ASSIGNED TIMED_OUT TIMED_OUT
ASSIGNED LOST LOST
ASSIGNED CANCEL_REQUESTED CANCELLING
RUNNING SUCCEEDED SUCCEEDED
RUNNING WILL_RETRY QUEUED
RUNNING GAVE_UP FAILED
RUNNING TIMED_OUT TIMED_OUT
RUNNING LOST LOST
RUNNING CANCEL_REQUESTED CANCELLING
CANCELLING CANCEL_REQUESTED CANCELLING
CANCELLING ENDED CANCELLED
"""
ATTEMPT_ARROWS = """
OFFERED ACCEPTED STARTING
OFFERED REJECTED REJECTED
OFFERED WITHDRAWN REJECTED
OFFERED STOP_REQUESTED CANCELLED
STARTING STARTED RUNNING
STARTING NOT_STARTED REJECTED
STARTING START_FAILED FAILED
STARTING STOP_REQUESTED STOPPING
STARTING LOST LOST
RUNNING ENDED_WELL SUCCEEDED
RUNNING ENDED_BADLY FAILED
RUNNING STOP_REQUESTED STOPPING
RUNNING LOST LOST
STOPPING STOP_REQUESTED STOPPING
STOPPING STOPPED_BY_CANCEL CANCELLED
STOPPING STOPPED_BY_TIMEOUT TIMED_OUT
STOPPING STOPPED_BY_RUNNER LOST
STOPPING FORCED CANCELLED
STOPPING LOST LOST
"""


def arrows(text: str) -> dict[tuple[str, str], str]:
    return {(state, event): to for state, event, to in (line.split() for line in text.strip().splitlines())}


@pytest.mark.parametrize("event", RunEvent)
@pytest.mark.parametrize("state", RunState)
def test_run_moves_as_written(state: RunState, event: RunEvent) -> None:
    to = arrows(RUN_ARROWS).get((state, event))
    if to is None:
        with pytest.raises(IllegalTransition):
            advance(RUN_TABLE, state, event)
    else:
        assert advance(RUN_TABLE, state, event) == to


@pytest.mark.parametrize("event", AttemptEvent)
@pytest.mark.parametrize("state", AttemptState)
def test_attempt_moves_as_written(state: AttemptState, event: AttemptEvent) -> None:
    to = arrows(ATTEMPT_ARROWS).get((state, event))
    if to is None:
        with pytest.raises(IllegalTransition):
            advance(ATTEMPT_TABLE, state, event)
    else:
        assert advance(ATTEMPT_TABLE, state, event) == to


def test_terminal_states_are_the_named_ones() -> None:
    assert {"SUCCEEDED", "FAILED", "TIMED_OUT", "LOST", "CANCELLED", "EXPIRED", "SKIPPED"} == RUN_TERMINAL
    assert {"SUCCEEDED", "FAILED", "TIMED_OUT", "CANCELLED", "LOST", "REJECTED"} == ATTEMPT_TERMINAL
    assert {"QUEUED", "ASSIGNED", "RUNNING", "CANCELLING"} == RUN_ACTIVE


def test_every_state_can_be_reached_and_every_live_one_can_end() -> None:
    born = {RunState.QUEUED, RunState.SKIPPED}
    assert reachable(RUN_TABLE, born) == set(RunState)
    assert reachable(ATTEMPT_TABLE, {AttemptState.OFFERED}) == set(AttemptState)
    assert all(reachable(RUN_TABLE, {state}) & RUN_TERMINAL for state in RUN_ACTIVE)
    assert all(reachable(ATTEMPT_TABLE, {state}) & ATTEMPT_TERMINAL for state in AttemptState)


def test_an_attempt_never_goes_backwards() -> None:
    """Without its one self-loop (a repeated stop request) the attempt table has no cycle."""
    for state, row in ATTEMPT_TABLE.items():
        for to in row.values():
            assert to is state or state not in reachable(ATTEMPT_TABLE, {to})


def reachable(table, start):  # type: ignore[no-untyped-def]
    seen = set(start)
    todo = list(start)
    while todo:
        for to in table[todo.pop()].values():
            if to not in seen:
                seen.add(to)
                todo.append(to)
    return seen
