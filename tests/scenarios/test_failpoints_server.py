"""The control plane is killed around each of its commits: what was answered stands, and nothing runs twice."""

from __future__ import annotations

import pytest
from banksman.v1 import run_pb2, schedule_pb2

from tests.failpoints.scene import Scene, Told, newest_of
from tests.scenarios.house import FINISHED
from tests.scenarios.test_schedules import runs_of, schedule, soon, task
from tests.waiting import wait_for

MOMENTS = ("before_commit", "after_commit", "after_send")
# Of a run's life, in its order. The long tests try all; among them an offer that was stored and never sent, for which
# everybody waits until it expires.
LIFE = [
    *(
        (verb, moment)
        for verb in ("submit", "accept", "started", "log_batch", "exit", "release")
        for moment in MOMENTS[:2]
    ),
    ("submit", "after_send"),
    ("offer", "before_commit"),
    ("offer", "after_send"),
    ("accept", "after_send"),
    ("log_batch", "after_send"),
]


@pytest.mark.parametrize(("verb", "moment"), LIFE)
def test_a_run_survives_a_kill_of_the_server_at_each_commit_of_its_life(scene: Scene, verb: str, moment: str) -> None:
    told = scene.told(steps=2)
    scene.die(f"server.{verb}.{moment}:kill", lambda: scene.submit(told))
    scene.server_returns()
    assert scene.submit(told), "asked again with the same request id"
    scene.expect_succeeded(told)


@pytest.mark.parametrize("point", ["held.before_commit", "held.after_commit", "welcome.after_send"])
def test_an_end_that_only_the_inventory_tells_is_told_again_after_a_kill(scene: Scene, point: str) -> None:
    told = scene.told(steps=2)
    scene.die("agent.exited.heard:kill", lambda: scene.submit(told))
    scene.die(f"server.{point}:kill", scene.agent_returns)
    scene.server_returns()
    scene.expect_succeeded(told)


@pytest.mark.parametrize("moment", MOMENTS[:2])
def test_a_session_whose_end_was_being_stored_is_followed_by_another(scene: Scene, moment: str) -> None:
    told = scene.begun(steps=2, pieces=60)
    scene.die(f"server.disconnect.{moment}:kill", scene.agent.kill_dash_nine)
    scene.server_returns()
    scene.agent_returns()
    scene.expect_succeeded(told)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cancel_that_was_stored_survives_a_kill_of_the_server(scene: Scene, moment: str) -> None:
    told = scene.begun(pieces=100_000)
    answers: list[run_pb2.Run | None] = []
    scene.die(f"server.cancel.{moment}:kill", lambda: answers.append(scene.ask(lambda: scene.house.cancel(told.id))))
    scene.server_returns()
    if moment == "before_commit":
        assert answers == [None]
        assert scene.house.get(told.id).state == run_pb2.RUN_STATE_RUNNING
        scene.house.cancel(told.id)
    scene.expect_cancelled(told)


@pytest.mark.parametrize("point", ["stop.after_send", "stop_status.before_commit", "stop_status.after_commit"])
def test_a_stop_that_is_under_way_is_ended_by_the_server_that_comes_back(scene: Scene, point: str) -> None:
    told = scene.begun(pieces=100_000, deaf=True, tail=True)
    scene.die(f"server.{point}:kill", lambda: scene.ask(lambda: scene.house.cancel(told.id)))
    scene.server_returns()
    run = scene.expect_cancelled(told)
    assert newest_of(run).stop.survivors, run


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_retry_by_hand_is_one_run_whenever_the_server_is_killed(scene: Scene, moment: str) -> None:
    told = scene.told(code=3)
    assert scene.submit(told)
    failed = scene.expect(told, run_pb2.RUN_STATE_FAILED, run_pb2.REASON_EXIT_NONZERO)
    wanted = run_pb2.RetryRunRequest(run=failed.id, request_id=told.request_id)
    scene.die(f"server.retry.{moment}:kill", lambda: scene.ask(lambda: scene.house.doors.runs.RetryRun(wanted)))
    scene.server_returns()
    again = scene.house.doors.runs.RetryRun(wanted)
    assert scene.house.doors.runs.RetryRun(wanted).id == again.id
    assert _retries(scene, failed.id) == [again.id]
    second = Told(scene, told.plans)
    scene.note(second, again.id)
    scene.expect(second, run_pb2.RUN_STATE_FAILED, run_pb2.REASON_EXIT_NONZERO)


@pytest.mark.parametrize("moment", MOMENTS[:2])
def test_a_schedule_fires_once_an_instant_whenever_the_server_is_killed(scene: Scene, moment: str) -> None:
    name = f"single-{moment}-{id(scene)}"
    single, at = task(scene.house, name, ["/bin/true"]), soon(0.4)
    scene.die(f"server.firing.{moment}:kill", lambda: schedule(scene.house, name, single, once=at))
    scene.server_returns()
    runs = wait_for(lambda: runs_of(scene.house, single), what="the instant fires")
    assert scene.house.wait(runs[0].id).state == run_pb2.RUN_STATE_SUCCEEDED
    assert [run.scheduled_time for run in runs_of(scene.house, single)] == [at]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_firing_by_hand_that_was_answered_is_there_after_a_kill(scene: Scene, moment: str) -> None:
    name = f"by-hand-{moment}-{id(scene)}"
    single = task(scene.house, name, ["/bin/true"])
    schedule(scene.house, name, single, once=soon(86_400))
    wanted = schedule_pb2.TriggerScheduleRequest(schedule=name, request_id=name)
    scene.die(
        f"server.firing.{moment}:kill", lambda: scene.ask(lambda: scene.house.doors.schedules.TriggerSchedule(wanted))
    )
    scene.server_returns()
    scene.house.doors.schedules.TriggerSchedule(wanted)
    (run,) = runs_of(scene.house, single)
    assert scene.house.wait(run.id).state in FINISHED


def _retries(scene: Scene, failed: str) -> list[str]:
    runs = scene.house.doors.runs.ListRuns(run_pb2.ListRunsRequest(page_size=1000)).runs
    return [run.id for run in runs if run.retry_of == failed]
