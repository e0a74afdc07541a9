"""A state table, keyed by event, and the one way to move in it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class IllegalTransition(Exception):
    """An event has no arrow in this state: a bug in the caller, never a runner's doing."""

    def __init__(self, state: StrEnum, event: StrEnum) -> None:
        super().__init__(f"{type(state).__name__}.{state.name} has no arrow for {type(event).__name__}.{event.name}")
        self.state = state
        self.event = event


def advance(table: Mapping[S, Mapping[E, S]], state: S, event: E) -> S:
    """The state that `event` leads to. Raises IllegalTransition when the table has no such arrow."""
    following = table[state].get(event)
    if following is None:
        raise IllegalTransition(state, event)
    return following


def allows(table: Mapping[S, Mapping[E, S]], state: S, event: E) -> bool:
    return event in table[state]


def terminal(table: Mapping[S, Mapping[E, S]]) -> frozenset[S]:
    """States that nothing leaves."""
    return frozenset(state for state, arrows in table.items() if not arrows)
