"""Every point with everything that can happen there: the whole product of which the scenarios try a part."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from banksman.v1 import run_pb2, spec_pb2

from tests.failpoints.fixtures import _scenes, hasty, scene, usable
from tests.failpoints.phases import BEFORE_FORK, BEFORE_IDENTITY, LADDER, LIFE, SLOW, START, STOP, UNDER_WAY, order
from tests.failpoints.scene import Scene, Told
from tests.scenarios.specs import seconds
from tests.waiting import wait_for

__all__ = ["_scenes", "brief", "hasty", "scene"]

VERBS = ("submit", "offer", "accept", "started", "step", "stop_status", "log_batch", "exit", "release")
MOMENTS = ("before_commit", "after_commit")
WAYS = ("kill", "leave", "term", "stop")
LOST_AFTER_S = 3.0


@pytest.fixture
def brief(_scenes: dict[str, Scene]) -> Iterator[Scene]:
    """A control plane that gives a silent runner up soon."""
    found = usable(_scenes, "brief", testing=True, heartbeat_shortest_s=0.4, loss_margin_s=0.5)
    yield found
    found.points.disarm()


def _come_back(scene: Scene, way: str) -> None:
    """After the agent was hit in this way."""
    if way == "stop":
        _wait_away(scene)
        scene.agent.send(signal.SIGCONT)
        return
    status = -9 if way == "kill" else 0
    assert scene.agent.wait(60) == status, scene.agent.said()
    scene.agent.start()


def _wait_away(scene: Scene) -> None:
    def away() -> bool:
        runner = scene.agent.runner()
        return runner is not None and not runner.connected

    wait_for(away, what="the runner's lease has run out")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("point", LIFE)
def test_whatever_happens_to_the_agent_and_when_its_run_ends_as_promised(hasty: Scene, point: str, way: str) -> None:
    told = hasty.told(steps=2)
    hasty.die(order(f"agent.{point}", way), lambda: hasty.submit(told))
    _come_back(hasty, way)
    hasty.expect_succeeded(told)


@pytest.mark.parametrize("point", LIFE)
def test_a_newer_agent_takes_over_in_any_phase(hasty: Scene, point: str) -> None:
    told = hasty.told(steps=2)
    hasty.points.arm(order(f"agent.{point}", "pause"))
    hasty.submit(told)
    hit = hasty.points.wait(f"agent.{point.partition('@')[0]}")
    newer = hasty.successor()
    newer.start()
    hasty.points.go(hit)
    assert hasty.agent.wait(30) == 0, hasty.agent.said()
    hasty.take(newer)
    hasty.expect_succeeded(told)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("point", STOP)
def test_whatever_happens_to_the_agent_a_cancel_is_proven(hasty: Scene, point: str, way: str) -> None:
    told = hasty.begun(pieces=100_000, deaf=True, tail=True)
    hasty.die(order(f"agent.{point}", way), lambda: hasty.house.cancel(told.id))
    _come_back(hasty, way)
    hasty.expect_cancelled(told)


@pytest.mark.parametrize("way", ["kill", "leave", "term"])
@pytest.mark.parametrize("point", START[1:])
def test_whatever_happens_to_the_agent_while_it_starts_its_run_goes_on(hasty: Scene, point: str, way: str) -> None:
    told = hasty.begun(steps=2, pieces=150)
    hasty.agent.kill_dash_nine()
    hasty.die(order(f"agent.{point}", way), hasty.agent.start)
    _come_back(hasty, way)
    hasty.expect_succeeded(told)


@pytest.mark.parametrize("point", sorted({*LIFE} - SLOW))
def test_server_and_agent_die_together_at_every_phase(hasty: Scene, point: str) -> None:
    told = hasty.told(steps=2)
    hasty.die(order(f"agent.{point}"), lambda: hasty.submit(told))
    hasty.house.server.kill_dash_nine()
    hasty.server_returns()
    _come_back(hasty, "kill")
    hasty.expect_succeeded(told)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("verb", VERBS)
def test_server_and_agent_die_together_at_every_commit(hasty: Scene, verb: str, moment: str) -> None:
    told = hasty.begun(pieces=100_000, deaf=True) if verb == "stop_status" else hasty.told(steps=2)
    act = (lambda: hasty.house.cancel(told.id)) if verb == "stop_status" else (lambda: hasty.submit(told))
    hasty.die(f"server.{verb}.{moment}:kill", lambda: hasty.ask(act))
    hasty.agent.kill_dash_nine()
    hasty.server_returns()
    hasty.agent.start()
    if verb == "stop_status":
        hasty.expect_cancelled(told)
    else:
        assert hasty.submit(told)
        hasty.expect_succeeded(told)


@pytest.mark.parametrize("moment", [*MOMENTS, "after_send"])
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "stop_status"])
def test_the_server_dies_at_every_commit(scene: Scene, verb: str, moment: str) -> None:
    told, silent = scene.told(steps=2), (verb, moment) == ("step", "after_send")
    if silent:  # a step's end is answered by silence: the next word is the welcome after the agent was killed
        scene.die("agent.step_ended.heard:kill", lambda: scene.submit(told))
        scene.die("server.welcome.after_send:kill", scene.agent_returns)
    else:
        scene.die(f"server.{verb}.{moment}:kill", lambda: scene.submit(told))
    scene.server_returns()
    assert scene.submit(told)
    scene.expect_succeeded(told)


def test_an_offer_that_was_stored_and_never_sent_expires_and_comes_again(scene: Scene) -> None:
    told = scene.told()
    scene.die("server.offer.after_commit:kill", lambda: scene.submit(told))
    scene.server_returns()
    assert len(scene.expect_succeeded(told).attempts) == 2


@pytest.mark.parametrize("point", [*BEFORE_IDENTITY, BEFORE_FORK])
def test_agent_and_shim_die_together_before_anything_was_executed(scene: Scene, point: str) -> None:
    told = scene.told(steps=2)
    scene.die(order(point), lambda: scene.submit(told))
    scene.agent.kill_dash_nine()
    scene.agent_returns()
    scene.expect_succeeded(told)


@pytest.mark.parametrize("together", ["agent", "guard", "server"])
@pytest.mark.parametrize("point", UNDER_WAY)
def test_a_shim_and_another_program_die_together(scene: Scene, point: str, together: str) -> None:
    told, guard = scene.told(tail=True), scene.guard()
    scene.points.arm(order(point, "stop"))
    scene.submit(told)
    hit = scene.points.wait(point.partition("@")[0])
    if together == "agent":
        scene.agent.kill_dash_nine()
    elif together == "server":
        scene.house.server.kill_dash_nine()
    else:
        os.kill(guard, signal.SIGKILL)
    os.kill(hit.pid, signal.SIGKILL)
    if together == "agent":
        scene.agent_returns()
    elif together == "server":
        scene.server_returns()
    scene.expect_lost(told, confirmed=None if together == "guard" else True)


@pytest.mark.parametrize("point", LADDER)
def test_shim_and_fork_server_die_together_over_a_stop(scene: Scene, point: str) -> None:
    told, guard = scene.begun(pieces=100_000, deaf=True, tail=True), scene.guard()
    scene.points.arm(order(point, "stop"))
    scene.house.cancel(told.id)
    hit = scene.points.wait(point)
    os.kill(guard, signal.SIGKILL)
    os.kill(hit.pid, signal.SIGKILL)
    scene.expect_cut_off(told, run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_USER_CANCEL)


def test_many_shims_that_died_with_their_host_programs_are_settled_together(scene: Scene) -> None:
    several = [scene.begun(pieces=100_000, tail=True) for _ in range(8)]
    shims = [scene.shim_of(told) for told in several]
    guard = scene.guard()
    scene.agent.kill_dash_nine()
    for pid in (guard, *shims):
        os.kill(pid, signal.SIGKILL)
    scene.agent_returns()
    for told in several:
        scene.expect_lost(told)


@pytest.mark.parametrize("on_lost", [spec_pb2.ON_LOST_FAIL, spec_pb2.ON_LOST_RETRY])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_loss_is_told_once_whenever_the_server_is_killed(brief: Scene, moment: str, on_lost: int) -> None:
    loss = spec_pb2.LossPolicy(on_lost=on_lost, lost_after=seconds(LOST_AFTER_S))
    told = brief.begun(pieces=100_000, tail=True, spec={"loss": loss})
    for of in ("lost", "signal", "attempts"):
        brief.recorder.excuse(told.id, of, "its runner was given up")
    brief.points.arm(f"server.lost.{moment}:kill")
    brief.agent.send(signal.SIGSTOP)
    brief.points.wait("server.lost.before_commit" if moment == MOMENTS[0] else "server.lost.after_commit")
    wait_for(lambda: not brief.survivors(told), what="the shim has ended its tree by itself, before it was given up")
    brief.server_returns()
    _expect_loss(brief, told, on_lost)


def _expect_loss(scene: Scene, told: Told, on_lost: int) -> None:
    ended = (run_pb2.RUN_STATE_LOST, run_pb2.RUN_STATE_QUEUED)[on_lost == spec_pb2.ON_LOST_RETRY]
    wait_for(lambda: scene.house.get(told.id).state == ended, what="the run is given up")
    first = scene.house.get(told.id)
    assert [attempt.reason for attempt in first.attempts] == [run_pb2.REASON_RUNNER_LOST]
    scene.agent.send(signal.SIGCONT)
    if on_lost == spec_pb2.ON_LOST_RETRY:
        scene.wait_word(told, "start", 2)
        scene.house.cancel(told.id)
    run = scene.house.wait(told.id)
    retried = on_lost == spec_pb2.ON_LOST_RETRY
    assert run.state == (run_pb2.RUN_STATE_CANCELLED if retried else run_pb2.RUN_STATE_LOST)
    scene.expect_once(told, run, tries=2 if retried else 1)
    scene.expect_released(told)
    assert not scene.survivors(told)
