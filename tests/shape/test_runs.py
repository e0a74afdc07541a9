"""What a run costs: transactions, syncs, messages. More than here means that something was undone.

The numbers are what is left after everything avoidable has gone; who lowers one lowers it here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from banksman.v1 import runner_pb2

from tests.scenarios.specs import spec
from tests.shape.house import CountingHouse

RUNS = 10
QUEUED = 60
# Of a run that nothing else accompanies.
TRANSACTIONS = 4
SYNCS = {"server": 0, "agent": 1, "host": 4}
SAID = {"agent": {"offer_reply", "attempt_started", "attempt_exited"}, "server": {"offer", "assignment", "release"}}
# Statements of the calls and of the session, the writes with the reads.
STATEMENTS = {"CreateRun": 5, "Session": 13}
# By time and not by run.
PERIODIC = ("heartbeat", "heartbeat_ack")


@pytest.fixture(scope="module")
def house() -> Iterator[CountingHouse]:
    with CountingHouse() as made:
        made.agent("a", slots=8)
        made.execute(spec(["/bin/true"]))
        yield made


@pytest.fixture(scope="module")
def alone(house: CountingHouse) -> Counter[str]:
    """What so many no-op runs cost, one after another."""
    with house.counting() as found:
        for _ in range(RUNS):
            house.execute(spec(["/bin/true"]))
    return found


@pytest.fixture(scope="module")
def queued(house: CountingHouse) -> Counter[str]:
    """What more of them cost when they wait for the runner, from when it takes them."""
    house.doors.runners.DrainRunner(runner_pb2.DrainRunnerRequest(runner="a"))
    runs = [house.submit(spec(["/bin/true"])).id for _ in range(QUEUED)]
    with house.counting() as found:
        house.doors.runners.ResumeRunner(runner_pb2.ResumeRunnerRequest(runner="a"))
        for run in runs:
            house.wait(run)
    return found


def said(found: Counter[str], who: str) -> dict[str, int]:
    """Messages by their word."""
    begin = f"{who}.said "
    words = {name.removeprefix(begin): number for name, number in found.items() if name.startswith(begin)}
    return {word: number for word, number in words.items() if word not in PERIODIC}


def test_a_run_takes_so_many_transactions(alone: Counter[str]) -> None:
    assert alone["server.commit"] <= TRANSACTIONS * RUNS, alone


def test_queued_runs_share_transactions(queued: Counter[str]) -> None:
    verbs = sum(number for name, number in queued.items() if name.startswith("server.verb "))
    assert queued["server.commit"] <= TRANSACTIONS * QUEUED
    assert queued["server.commit"] < verbs, queued


@pytest.mark.parametrize("who", SYNCS)
def test_a_run_takes_so_many_syncs(alone: Counter[str], queued: Counter[str], who: str) -> None:
    assert alone[f"{who}.sync"] <= SYNCS[who] * RUNS, alone
    assert queued[f"{who}.sync"] <= SYNCS[who] * QUEUED, queued


@pytest.mark.parametrize("who", SAID)
def test_a_run_takes_one_message_of_each_kind(alone: Counter[str], queued: Counter[str], who: str) -> None:
    assert said(alone, who) == dict.fromkeys(SAID[who], RUNS)
    many = said(queued, who)
    many.pop("resume", None)
    assert set(many) <= SAID[who]
    assert all(number <= QUEUED for number in many.values()), many


@pytest.mark.parametrize("call", STATEMENTS)
def test_a_run_takes_so_many_statements(alone: Counter[str], call: str) -> None:
    # What is written once a minute and not each time may come among them.
    assert alone[f"query {call}"] <= STATEMENTS[call] * RUNS + RUNS // 2, alone
