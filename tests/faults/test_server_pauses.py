"""The control plane stands still, or its database does: when it goes on, nothing has been given up meanwhile."""

from __future__ import annotations

import signal

from banksman.v1 import run_pb2

from tests.scenarios.house import House
from tests.scenarios.links import Flood, last, loss
from tests.scenarios.specs import spec
from tests.scenarios.test_server_storage import locked_out

LEASE_S = 15.0


def test_a_server_that_was_stopped_for_three_leases_gives_nothing_up(house: House) -> None:
    agents = [house.agent(f"r{number}") for number in range(3)]
    runs = [Flood(house, 20_000, seed=seed, loss=loss(90)) for seed in range(9)]
    for run in runs:
        run.pid()
    house.server.send(signal.SIGSTOP)
    try:
        for run in runs[:3]:
            run.gate.send()  # they end while nobody listens
        last(3 * LEASE_S)
    finally:
        house.server.send(signal.SIGCONT)
    for run in runs[3:6]:
        assert house.get(run.id).state == run_pb2.RUN_STATE_RUNNING
    for agent in agents:
        agent.wait_connected()
    for run in runs[3:]:
        run.gate.send()
    for run in runs:
        done = run.expect_a_whole_end()
        assert len(done.attempts) == 1
    assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED


def test_a_database_that_is_locked_for_twelve_seconds_is_waited_for(house: House) -> None:
    locked_out(house, 12)
