"""Escape artists as runs of a house: one run per shape, all at large at once, each judged by its own lock."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from banksman.v1 import run_pb2

from tests.scenarios import escape_artists
from tests.scenarios.children import Fifo, locked
from tests.scenarios.house import House, unshared
from tests.scenarios.specs import seconds, spec

PROGRAM = pathlib.Path(escape_artists.__file__).resolve()
SHAPES = tuple(escape_artists.SHAPES)


@dataclass(frozen=True, slots=True)
class Artist:
    """One run: its shape, and the lock that every process of its tree holds."""

    shape: str
    run: str
    lock: pathlib.Path

    @property
    def survives(self) -> bool:
        return locked(self.lock)


def artist_argv(shape: str, lock: pathlib.Path, arrived: Fifo, then: str) -> list[str]:
    """argv of one tree."""
    return [sys.executable, "-I", "-S", str(PROGRAM), shape, str(lock), str(arrived.path), then]


def at_large(
    house: House,
    shapes: Sequence[str] = SHAPES,
    *,
    then: str = "stay",
    labels: dict[str, str] | None = None,
    **fields: object,
) -> list[Artist]:
    """Start a run per shape, and wait until every tree stands."""
    here = unshared(house)
    arrived = house.fifo(here / "arrived")
    found = []
    for number, shape in enumerate(shapes):
        lock = here / f"{number}.{shape}"
        argv = artist_argv(shape, lock, arrived, then)
        values = {"grace": seconds(0.2), "labels": labels, **fields}
        found.append(Artist(shape, house.submit(spec(argv, **values)).id, lock))
    stand = sorted(arrived.receive() for _ in found)
    assert stand == sorted(shapes)
    return found


def survivors(artists: Iterable[Artist]) -> list[str]:
    """The shapes of which something is alive."""
    return [artist.shape for artist in artists if artist.survives]


def endings(house: House, artists: Iterable[Artist]) -> dict[str, run_pb2.Run]:
    """Each shape's run once it has settled."""
    return {artist.shape: house.wait(artist.run) for artist in artists}
