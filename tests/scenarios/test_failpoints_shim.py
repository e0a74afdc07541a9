"""A shim or the fork server is killed at each of its points: nothing runs twice, and what is called proven is true."""

from __future__ import annotations

import os
import signal

import pytest
from banksman.v1 import run_pb2, spec_pb2

from tests.failpoints.phases import BEFORE_FORK, BEFORE_IDENTITY, FORKED, LADDER, RECORDED, UNDER_WAY, order
from tests.failpoints.scene import Scene
from tests.waiting import wait_for


def test_what_dies_before_anything_was_executed_costs_the_run_nothing(scene: Scene) -> None:
    """One run for each point, side by side, because each is kept from its runner for some seconds."""
    points = (*BEFORE_IDENTITY, BEFORE_FORK)
    several = [scene.told(steps=2) for _ in points]
    scene.points.arm(*map(order, points))
    for told in several:
        scene.submit(told)
    for point in points:
        scene.points.wait(point)
    tries = sum(len(scene.expect_succeeded(told).attempts) for told in several)
    # A dead shim is a try, a dead fork server is none: another one is asked at once.
    assert tries >= len(several) + len(BEFORE_IDENTITY)


@pytest.mark.parametrize("point", UNDER_WAY)
def test_a_run_whose_shim_dies_is_lost_and_its_tree_is_proven_empty(scene: Scene, point: str) -> None:
    told = scene.told(steps=1, tail=True)
    scene.die(order(point), lambda: scene.submit(told))
    scene.expect_lost(told, confirmed=True)


@pytest.mark.parametrize("point", RECORDED)
def test_a_shim_that_dies_after_its_record_was_stored_has_told_all(scene: Scene, point: str) -> None:
    told = scene.told(steps=2)
    scene.die(order(point), lambda: scene.submit(told))
    scene.expect_succeeded(told)


@pytest.mark.parametrize("point", LADDER)
def test_a_cancel_is_proven_also_when_the_shim_dies_over_it(scene: Scene, point: str) -> None:
    told = scene.begun(pieces=100_000, deaf=True, tail=True)
    scene.die(order(point), lambda: scene.house.cancel(told.id))
    scene.expect_cut_off(told, run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_USER_CANCEL, confirmed=True)


@pytest.mark.parametrize("point", FORKED)
def test_a_fork_server_that_dies_over_a_fork_starts_nothing_twice(scene: Scene, point: str) -> None:
    told = scene.told(steps=2)
    scene.die(order(point), lambda: scene.submit(told))
    scene.expect_succeeded(told)


def test_a_fork_server_that_dies_at_once_is_started_again(scene: Scene) -> None:
    told, guard = scene.told(), scene.guard()
    scene.points.arm("fork_server.started:kill")
    os.kill(guard, signal.SIGKILL)
    scene.submit(told)
    scene.points.wait("fork_server.started")
    scene.expect_succeeded(told)


@pytest.mark.parametrize("agent_too", [False, True])
def test_a_run_goes_on_without_its_fork_server(scene: Scene, agent_too: bool) -> None:
    told = scene.begun(steps=2, pieces=60)
    if agent_too:
        scene.agent.kill_dash_nine()
    os.kill(scene.guard(), signal.SIGKILL)
    if agent_too:
        scene.agent_returns()
    scene.expect_succeeded(told)


@pytest.mark.parametrize("point", ["fork_server.witness.before", "fork_server.witness.after"])
def test_what_nobody_saw_end_is_not_called_proven(scene: Scene, point: str) -> None:
    """The shim dies, and the fork server before or after it could say that nothing is left."""
    told = scene.begun(pieces=100_000, tail=True)
    scene.die(order(point), lambda: os.kill(scene.shim_of(told), signal.SIGKILL))
    scene.expect_lost(told)


@pytest.mark.parametrize("together", ["agent", "guard"])
def test_a_shim_that_dies_with_its_agent_or_its_fork_server_leaves_nothing(scene: Scene, together: str) -> None:
    told = scene.begun(pieces=100_000, tail=True)
    shim, guard = scene.shim_of(told), scene.guard()
    if together == "agent":
        scene.agent.kill_dash_nine()
    else:
        os.kill(guard, signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    if together == "agent":
        scene.agent_returns()
    scene.expect_lost(told, confirmed=True if together == "agent" else None)


def test_a_run_that_may_be_retried_is_retried_only_when_its_tree_is_proven_empty(scene: Scene) -> None:
    told = scene.told(tail=True, spec={"loss": spec_pb2.LossPolicy(on_lost=spec_pb2.ON_LOST_RETRY)})
    scene.die(order("shim.spool.appended@3"), lambda: scene.submit(told))
    scene.recorder.fault("shim", run=told.id)
    run = scene.expect(told, run_pb2.RUN_STATE_SUCCEEDED, run_pb2.REASON_EXIT_ZERO, tries=2)
    assert len(run.attempts) == 2
    wait_for(lambda: not scene.survivors(told), what="nothing is left")
