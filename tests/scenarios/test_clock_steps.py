"""A wall clock that is set by an hour, on either side: no lease, no run, no firing twice, no door that stays shut."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
import time

import pytest
from banksman.v1 import run_pb2, schedule_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from tests.scenarios import odd_runner, odd_server
from tests.scenarios.children import PAUSE, lines, python
from tests.scenarios.house import House
from tests.scenarios.specs import seconds, spec
from tests.scenarios.test_schedules import at_least, instants, runs_of, schedule, task
from tests.waiting import wait_for

HOUR_S = 3600.0


class Clocks:
    """The wall clocks of the server and of one runner."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._places = {who: house.root / f"{who}.json" for who in ("server", "runner")}
        for who in self._places:
            self.step(who, 0)
        house.server.kill_dash_nine()
        house.server.argv[1:3] = [str(pathlib.Path(odd_server.__file__).resolve()), str(self._places["server"])]
        house.start_server()
        self.agent = house.agent("r1", slots=8, start=False)
        self.agent.argv[1:3] = [str(pathlib.Path(odd_runner.__file__).resolve()), str(self._places["runner"])]
        self.agent.connect()

    def step(self, who: str, ahead_s: float) -> None:
        """Whole or not at all: it is read all the time."""
        handle, path = tempfile.mkstemp(dir=self.house.root)
        with open(handle, "w") as file:
            json.dump({"wall_s": ahead_s}, file)
        os.replace(path, self._places[who])

    def wait_noticed(self, times: int) -> None:
        words = "alarms are set anew"
        wait_for(lambda: self.house.server.output.read_text().count(words) >= times, what="the server notices the step")


@pytest.fixture
def clocks(house: House) -> Clocks:
    return Clocks(house)


def later(by_s: float) -> Timestamp:
    moment = Timestamp()
    moment.FromMilliseconds(round((time.time() + by_s) * 1000))
    return moment


def test_steps_of_an_hour_disturb_no_run_and_fire_nothing_twice(clocks: Clocks) -> None:
    house = clocks.house
    arrived, gate, tally = house.fifo("arrived"), house.fifo("gate"), house.root / "tally"
    run = house.submit(spec(python(PAUSE, tally, arrived.path, gate.path)))
    arrived.receive()
    runner = clocks.agent.runner()
    assert runner is not None
    beat = task(house, "beat", ["/bin/true"])
    schedule(house, "beats", beat, every=seconds(1), overlap=schedule_pb2.OVERLAP_POLICY_ALLOW)
    before = len(at_least(house, beat, 2))
    for times, (who, ahead_s) in enumerate((("server", HOUR_S), ("runner", -HOUR_S), ("server", 0), ("runner", 0))):
        clocks.step(who, ahead_s)
        if (who, ahead_s) == ("server", HOUR_S):
            clocks.wait_noticed(1)
            after = at_least(house, beat, before + 2)
            assert len(after) < before + 60, "the hour that never was is not made up for second by second"
        elif who == "server":
            clocks.wait_noticed(2)
            # Nor is the interval silent for the hour that comes again.
            at_least(house, beat, len(runs_of(house, beat)) + 2)
        now = house.get(run.id)
        assert (now.state, now.lease_epoch) == (run_pb2.RUN_STATE_RUNNING, run.lease_epoch or 1), times
        assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED, "new runs start"
    due = instants(runs_of(house, beat))
    assert len(due) == len(set(due)), "an instant fired twice"
    again = clocks.agent.runner()
    assert again is not None
    assert again.session_epoch == runner.session_epoch, "the session was cut by a clock"
    gate.send()
    done = house.wait(run.id)
    assert (done.state, len(done.attempts), len(lines(tally))) == (run_pb2.RUN_STATE_SUCCEEDED, 1, 1)


def test_what_fell_into_a_forward_step_follows_its_policy(clocks: Clocks) -> None:
    house = clocks.house
    made = {name: task(house, name, ["/bin/true"]) for name in ("skipped", "made-up")}
    schedule(house, "skipped", made["skipped"], once=later(HOUR_S / 2), catch_up=schedule_pb2.CATCH_UP_POLICY_SKIP)
    schedule(house, "made-up", made["made-up"], once=later(HOUR_S / 2), catch_up=schedule_pb2.CATCH_UP_POLICY_ONE)
    clocks.step("server", HOUR_S)
    # The timers may ring before the step is noticed: back and forth between two looks would be no step at all.
    clocks.wait_noticed(1)
    assert len(at_least(house, made["made-up"], 1)) == 1
    clocks.step("server", 0)
    clocks.wait_noticed(2)
    clocks.step("server", HOUR_S)
    clocks.wait_noticed(3)
    assert len(runs_of(house, made["made-up"])) == 1, "the same instant came again, and fired again"
    assert all(run.state == run_pb2.RUN_STATE_SKIPPED for run in runs_of(house, made["skipped"]))


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_a_runner_comes_back_to_a_server_whose_clock_was_set(clocks: Clocks, ahead_s: float) -> None:
    """Its credential was made by the clock of before; the key renews it."""
    house = clocks.house
    clocks.agent.kill_dash_nine()
    clocks.step("server", ahead_s)
    house.server.kill_dash_nine()
    house.start_server()
    clocks.agent.connect()
    assert house.execute(spec(["/bin/true"])).state == run_pb2.RUN_STATE_SUCCEEDED
    assert house.cli("run", "list").returncode == 0, "the admin's token knows no clock"
