"""The agent is killed, frozen past its lease or replaced at every phase, and its run does not notice."""

from __future__ import annotations

import signal

import pytest
from banksman.v1 import run_pb2

from tests.failpoints.phases import MAIN, MAIN_STOP, START, order
from tests.failpoints.scene import Scene, newest_of
from tests.waiting import wait_for

# The long tests try all phases.
FROZEN = ["accept.after_journal", "fork.after_order", "log.before_send@2"]
REPLACED = ["accept.before_send", "started.before_send", "exit.before_send"]


@pytest.mark.parametrize("point", MAIN)
def test_an_agent_that_is_killed_in_any_phase_leaves_the_run_as_it_was(scene: Scene, point: str) -> None:
    told = scene.told(steps=2)
    scene.die(_order(point, "kill"), lambda: scene.submit(told))
    scene.agent_returns()
    scene.expect_succeeded(told)


@pytest.mark.parametrize("point", MAIN_STOP)
def test_a_stop_goes_on_when_the_agent_is_killed_over_it(scene: Scene, point: str) -> None:
    told = scene.begun(pieces=100_000, deaf=True, tail=True)
    scene.die(_order(point, "kill"), lambda: scene.house.cancel(told.id))
    scene.agent_returns()
    run = scene.expect_cancelled(told)
    assert newest_of(run).stop.survivors, run


@pytest.mark.parametrize("point", START)
def test_an_agent_that_is_killed_while_it_starts_is_started_again(scene: Scene, point: str) -> None:
    told = scene.begun(steps=2, pieces=150)
    scene.agent.kill_dash_nine()
    scene.die(_order(point, "kill"), scene.agent.start)
    scene.agent_returns()
    scene.expect_succeeded(told)


@pytest.mark.parametrize("point", ["start.locked", "start.scanned"])
def test_an_agent_that_is_told_to_leave_while_it_starts_leaves_well(scene: Scene, point: str) -> None:
    told = scene.begun(steps=2, pieces=60)
    scene.agent.kill_dash_nine()
    scene.die(_order(point, "leave" if point == "start.scanned" else "term"), scene.agent.start)
    assert scene.agent.wait(30) == 0, scene.agent.said()
    scene.agent.start()
    scene.expect_succeeded(told)


def test_an_agent_that_is_told_to_leave_while_it_waits_for_its_place_disturbs_nobody(scene: Scene) -> None:
    told = scene.told(steps=2)
    scene.points.arm("agent.fork.after_order:pause", "agent.start.waiting:note")
    scene.submit(told)
    hit = scene.points.wait("agent.fork.after_order")
    newer = scene.successor()
    newer.start()
    scene.points.wait("agent.start.waiting")
    newer.send(signal.SIGTERM)
    assert newer.wait(15) == 0, newer.said()
    scene.points.go(hit)
    scene.agent_returns(status=0)  # it had been asked before
    scene.expect_succeeded(told)


@pytest.mark.parametrize("point", FROZEN)
def test_an_agent_that_is_frozen_past_its_lease_goes_on_with_its_run(hasty: Scene, point: str) -> None:
    told = hasty.told(steps=2)
    hasty.die(_order(point, "stop"), lambda: hasty.submit(told))
    _wait_away(hasty)
    hasty.agent.send(signal.SIGCONT)
    hasty.expect_succeeded(told)


def test_a_cancel_ends_a_run_whose_agent_is_frozen_over_it(hasty: Scene) -> None:
    told = hasty.begun(pieces=100_000, deaf=True, tail=True)
    hasty.die("agent.stop.before_pass_on:stop", lambda: hasty.house.cancel(told.id))
    _wait_away(hasty)
    assert hasty.survivors(told)
    assert hasty.house.get(told.id).state == run_pb2.RUN_STATE_CANCELLING
    hasty.agent.send(signal.SIGCONT)
    hasty.expect_cancelled(told)


@pytest.mark.parametrize("point", REPLACED)
def test_an_agent_that_hands_over_in_any_phase_leaves_the_run_to_the_next(scene: Scene, point: str) -> None:
    told = scene.told(steps=2)
    scene.die(_order(point, "leave"), lambda: scene.submit(told))
    scene.agent_returns(status=0)
    scene.expect_succeeded(told)


@pytest.mark.parametrize("point", ["fork.after_order", "log.before_send@2"])
def test_a_newer_agent_takes_the_place_of_one_that_is_busy(scene: Scene, point: str) -> None:
    told = scene.told(steps=2)
    scene.points.arm(_order(point, "pause"))
    scene.submit(told)
    hit = scene.points.wait(_name(point))
    newer = scene.successor()
    newer.start()
    scene.points.go(hit)
    assert scene.agent.wait(15) == 0, scene.agent.said()
    scene.take(newer)
    scene.expect_succeeded(told)


@pytest.mark.parametrize("point", ["accept.after_send", "log.before_send@2"])
def test_an_agent_that_is_told_to_drain_in_any_phase_ends_its_run_first(scene: Scene, point: str) -> None:
    told = scene.told(steps=2)
    scene.die(_order(point, "term"), lambda: scene.submit(told))
    assert scene.agent.wait(30) == 0, scene.agent.said()
    scene.agent.start()
    scene.expect_succeeded(told)


@pytest.mark.parametrize("point", ["agent.accept.after_send", "agent.log.after_send@2", "agent.exit.after_send"])
def test_server_and_agent_may_die_together(scene: Scene, point: str) -> None:
    told = scene.told(steps=2)
    scene.die(order(point), lambda: scene.submit(told))
    scene.house.server.kill_dash_nine()
    scene.server_returns()
    scene.agent_returns()
    scene.expect_succeeded(told)


def _name(point: str) -> str:
    return f"agent.{point.partition('@')[0]}"


def _order(point: str, action: str) -> str:
    return order(f"agent.{point}", action)


def _wait_away(scene: Scene) -> None:
    def away() -> bool:
        runner = scene.agent.runner()
        return runner is not None and not runner.connected

    wait_for(away, what="the runner's lease has run out")
