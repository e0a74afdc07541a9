"""Bad networks: the run goes on, nothing runs twice, no log byte is lost or repeated, and a cancel still arrives."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from banksman.v1 import run_pb2

from tests.scenarios.children import PATIENT, python
from tests.scenarios.house import House
from tests.scenarios.links import Flood, Truthful, behind, epoch_of, last, loss, wait_disconnected
from tests.scenarios.proxy import Proxy, Way
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for

# A lease of 1.5 s, and a server that gives a run up 0.5 s after its runner certainly has.
QUICK = {"heartbeat_shortest_s": 0.5, "loss_margin_s": 0.5, "testing": True}


@pytest.fixture
def quick() -> Iterator[House]:
    """A control plane whose leases are short."""
    with House(**QUICK) as made:
        yield made


def test_a_partition_shorter_than_the_lease_is_not_noticed(house: House) -> None:
    with Proxy(house.admin.target) as proxy:
        agent = behind(house, proxy)
        run, epoch = Flood(house, 50_000), epoch_of(agent)
        run.pid()
        proxy.hold(True)
        run.gate.send()
        last(2)
        runner = agent.runner()
        assert runner is not None
        assert runner.connected
        proxy.hold(False)
        run.expect_a_whole_end()
        assert (epoch_of(agent), proxy.taken) == (epoch, 1)


@pytest.mark.parametrize("ways", [(Way.UP,), (Way.DOWN,)], ids=["up", "down"])
def test_a_partition_longer_than_the_lease_shows_the_runner_away_and_nothing_else(
    quick: House, ways: tuple[Way, ...]
) -> None:
    with Proxy(quick.admin.target) as proxy:
        agent = behind(quick, proxy)
        run, epoch = Flood(quick, 300_000), epoch_of(agent)
        run.pid()
        proxy.hold(True, *ways)
        wait_disconnected(agent)
        assert quick.get(run.id).state == run_pb2.RUN_STATE_RUNNING
        run.gate.send()
        proxy.hold(False, *ways)
        agent.wait_connected(epoch)
        run.expect_a_whole_end()


def test_a_run_whose_runner_stays_away_is_stopped_there_before_it_is_tried_elsewhere(quick: House) -> None:
    with Proxy(quick.admin.target) as proxy:
        first, second = behind(quick, proxy, slots=8), quick.agent("r2", slots=1)
        run = Truthful(quick, "moved", 1_500, loss=loss(3, retry=True), grace=seconds(0.2))
        run.wait_started()
        assert quick.get(run.id).attempts[0].runner_name == first.name
        proxy.hold(True)
        run.wait_started(2)
        assert not run.said("overlap", "stop")
        assert [item[3] for item in run.said("start")] == ["1", "2"]
        quick.cancel(run.id)
        proxy.hold(False)
        proxy.cut()
        done = quick.wait(run.id)
        newest, oldest = done.attempts
        assert (oldest.state, oldest.reason) == (run_pb2.ATTEMPT_STATE_LOST, run_pb2.REASON_RUNNER_LOST)
        assert (newest.runner_name, done.state) == (second.name, run_pb2.RUN_STATE_CANCELLED)
        assert not run.alive()
        wait_for(lambda: quick.get(run.id).kill_confirmed, what="the first host proves that its process is gone")
        assert not run.said("overlap")


def test_connections_that_break_after_any_byte_lose_and_repeat_nothing(house: House) -> None:
    chance = random.Random(5)
    with Proxy(house.admin.target) as proxy:
        agent = behind(house, proxy)
        runs = [Flood(house, 1_000, more=400_000, seed=number) for number in range(2)]
        for run in runs:
            run.pid()
        budgets = [chance.randrange(2_000, 150_000) for _ in range(8)]
        proxy.cut_after = lambda: budgets.pop() if budgets else None
        proxy.cut()
        for run in runs:
            run.gate.send()
        for run in runs:
            run.expect_a_whole_end(timeout_s=90)
        assert proxy.resets >= 3
        agent.expect_running()


def test_connections_that_are_reset_when_idle_still_carry_runs_and_cancels(house: House) -> None:
    with Proxy(house.admin.target) as proxy:
        agent = behind(house, proxy)
        proxy.idle_s = 0.5  # a tenth of a heartbeat's period
        run = Flood(house, 100_000)
        run.pid()
        wait_for(lambda: proxy.resets >= 2, what="idle connections are reset")
        arrived, lock = house.fifo("patient"), house.root / "lock"
        other = house.submit(spec(python(PATIENT, lock, arrived.path)))
        arrived.receive(60)
        house.cancel(other.id)
        assert house.wait(other.id).state == run_pb2.RUN_STATE_CANCELLED
        run.gate.send()
        run.expect_a_whole_end()
        agent.expect_running()


def test_a_slow_link_keeps_its_session_and_a_cancel_overtakes_the_log(quick: House) -> None:
    with Proxy(quick.admin.target) as proxy:
        agent = behind(quick, proxy)
        epoch = epoch_of(agent)
        proxy.shape(125_000)  # 1 Mbit/s
        run = Flood(quick, 3_000_000, piece=60_000)  # faster than the link by far
        run.pid()
        before = proxy.passed(Way.UP)
        wait_for(lambda: proxy.passed(Way.UP) > before + 400_000, what="the log is on its way for three leases")
        quick.cancel(run.id)
        done = quick.wait(run.id, settled=False)
        assert done.state == run_pb2.RUN_STATE_CANCELLED
        assert done.kill_confirmed
        assert proxy.passed(Way.UP) < before + 2_000_000, "the cancel waited for the log"
        assert (epoch_of(agent), proxy.taken) == (epoch, 1)
        proxy.shape(None)
        quick.wait(run.id)
        assert quick.log(run.id) == run.written[:3_000_000]


def test_three_hundred_milliseconds_of_latency_change_nothing(house: House) -> None:
    with Proxy(house.admin.target) as proxy:
        agent = behind(house, proxy)
        proxy.latency_s, epoch = 0.3, epoch_of(agent)
        run = Flood(house, 100_000)
        run.pid()
        run.gate.send()
        run.expect_a_whole_end()
        assert (epoch_of(agent), proxy.taken) == (epoch, 1)
