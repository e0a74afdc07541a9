"""A runner that falls silent is shown disconnected within its lease, whatever it was doing, by the default settings."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Iterator

from banksman.v1 import run_pb2

from tests.faults.figures import Recorder, percentile, spread
from tests.faults.fleet import Fleet, connected, wait_all
from tests.scenarios.children import PATIENT, python
from tests.scenarios.house import House
from tests.scenarios.program import Program
from tests.scenarios.specs import spec
from tests.waiting import wait_for

FLEETS, EACH, ROUNDS = 5, 10, 2
GOAL_S = 16.0


@contextlib.contextmanager
def fleets(house: House, count: int, each: int) -> Iterator[list[Fleet]]:
    """So many processes of so many runners each, all in session."""
    made = [Fleet(house, f"f{number}", each) for number in range(count)]
    for fleet in made:
        fleet.start()
    try:
        wait_all(house, made)
        yield made
    finally:
        for fleet in made:
            fleet.send(signal.SIGCONT)
            fleet.kill_dash_nine()


def freeze(house: House, frozen: list[tuple[Program, set[str]]], chance: random.Random) -> list[float]:
    """Stop each process at a moment of its own; how long each of its runners is still shown connected, in seconds."""
    began = time.monotonic()
    at = {index: began + chance.uniform(0, 5) for index in range(len(frozen))}
    since: dict[str, float] = {}
    found: dict[str, float] = {}

    def all_away() -> bool:
        now = time.monotonic()
        for index in [index for index, moment in at.items() if moment <= now]:
            del at[index]
            program, names = frozen[index]
            program.send(signal.SIGSTOP)
            since.update(dict.fromkeys(names, time.monotonic()))
        there = connected(house)
        seen = time.monotonic()
        found.update({name: seen - since[name] for name in since if name not in there and name not in found})
        return not at and len(found) == len(since)

    wait_for(all_away, what="every silent runner is shown disconnected", timeout_s=60)
    return list(found.values())


def test_a_silent_runner_is_shown_disconnected_in_time(house: House, figures: Recorder) -> None:
    chance = random.Random(7)
    real = house.agent("real", slots=1)
    arrived, lock = house.fifo("arrived"), house.root / "lock"
    run = house.submit(spec(python(PATIENT, lock, arrived.path)))
    arrived.receive()
    found: list[float] = []
    with fleets(house, FLEETS, EACH) as made:
        frozen = [*((fleet, fleet.names) for fleet in made), (real, {"real"})]
        for number in range(ROUNDS):
            found += freeze(house, frozen, chance)
            away = house.get(run.id)
            assert away.state == run_pb2.RUN_STATE_RUNNING, "disconnected is no state"
            assert away.attempts[0].HasField("disconnected_since")
            figures.say(f"round {number + 1} of {ROUNDS}: {spread(found)}")
            for program, _ in frozen:
                program.send(signal.SIGCONT)
            wait_all(house, made)
            wait_for(lambda: "real" in connected(house), what="the real one is back")
    p99 = percentile(found, 0.99)
    figures.record(
        "lost runner shown disconnected, p99", p99, unit="s", goal=f"<= {GOAL_S:g}", ok=p99 <= GOAL_S,
        spread=spread(found),
    )  # fmt: skip
    house.cancel(run.id)
    assert house.wait(run.id).kill_confirmed
