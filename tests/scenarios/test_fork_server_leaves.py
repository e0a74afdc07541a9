"""A fork server that nobody needs leaves; whoever comes then, or meanwhile, finds one that works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.failpoints.scene import Scene
from tests.scenarios.faults import lock_holder
from tests.scenarios.program import touching
from tests.waiting import wait_for


@pytest.fixture
def restless() -> Iterator[Scene]:
    """Its fork server leaves after a moment without use."""
    made = Scene(idle_s=0.3)
    try:
        yield made
    finally:
        made.close()


def test_a_fork_server_stays_for_its_agent_and_for_runs_and_then_leaves(restless: Scene) -> None:
    scene, guard = restless, restless.guard()
    told = scene.begun(steps=2, pieces=300)
    assert scene.guard() == guard, "its agent lives"
    scene.agent.kill_dash_nine()
    scene.wait_word(told, "stop", 2)
    wait_for(lambda: guard not in touching(scene.house.root), what="the fork server leaves")
    left = [pid for pid in touching(scene.house.root) if pid != scene.house.server.pid]
    assert not left, "nothing of the runner is left but its files"
    scene.agent_returns()
    scene.expect_succeeded(told)
    scene.expect_succeeded(scene.begun())
    assert lock_holder(scene.state / "fork.lock") not in (None, guard)


def test_an_agent_that_comes_while_the_fork_server_leaves_starts_another(restless: Scene) -> None:
    scene, guard = restless, restless.guard()
    scene.points.arm("fork_server.retire.before:pause")
    scene.agent.kill_dash_nine()
    hit = scene.points.wait("fork_server.retire.before")
    assert hit.pid == guard
    scene.agent.start()
    scene.points.arm("agent.hello.after_send:note")
    scene.points.go(hit)
    scene.points.wait("agent.hello.after_send")
    scene.expect_succeeded(scene.begun())
    assert scene.guard() != guard
