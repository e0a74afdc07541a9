"""A schedule fires once per due instant, whatever happens to the control plane."""

from __future__ import annotations

import time
from typing import Any

from banksman.v1 import run_pb2, schedule_pb2, task_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from tests.scenarios.children import PAUSE, lines, python
from tests.scenarios.house import FINISHED, House
from tests.scenarios.specs import seconds, spec
from tests.waiting import wait_for


def task(house: House, name: str, argv: list[str]) -> task_pb2.Task:
    return house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task_pb2.Task(name=name, spec=spec(argv))))


def schedule(house: House, name: str, of: task_pb2.Task, **when: Any) -> schedule_pb2.Schedule:
    wanted = schedule_pb2.Schedule(name=name, task_id=of.id, **when)
    return house.doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=wanted))


def runs_of(house: House, of: task_pb2.Task) -> list[run_pb2.Run]:
    """Oldest first."""
    return list(house.doors.runs.ListRuns(run_pb2.ListRunsRequest(task=of.id, page_size=1000)).runs)[::-1]


def at_least(house: House, of: task_pb2.Task, count: int) -> list[run_pb2.Run]:
    return wait_for(lambda: len(runs := runs_of(house, of)) >= count and runs, what=f"{count} firings")


def pause(house: House, name: str) -> None:
    house.doors.schedules.PauseSchedule(schedule_pb2.PauseScheduleRequest(schedule=name))


def soon(later_s: float) -> Timestamp:
    moment = Timestamp()
    moment.FromMilliseconds(round((time.time() + later_s) * 1000))
    return moment


def instants(runs: list[run_pb2.Run]) -> list[int]:
    return [run.scheduled_time.ToNanoseconds() for run in runs]


def test_every_second_fires_once_a_second(shared: House) -> None:
    beat = task(shared, "beat", ["/bin/echo", "beat"])
    made = schedule(shared, "beats", beat, every=seconds(1))
    at_least(shared, beat, 3)
    pause(shared, "beats")
    runs = runs_of(shared, beat)
    assert {run.schedule_id for run in runs} == {made.id}
    assert {run.trigger_type for run in runs} == {run_pb2.TRIGGER_TYPE_SCHEDULED}
    due = instants(runs)
    assert due == sorted(set(due)), "one run an instant"
    assert all((instant - due[0]) % 1_000_000_000 == 0 for instant in due)
    done = shared.wait(runs[0].id)
    assert shared.log(done.id) == b"beat\n"


def test_once_fires_once(shared: House) -> None:
    single = task(shared, "single", ["/bin/true"])
    moment = soon(1)
    schedule(shared, "singles", single, once=moment)
    (run,) = at_least(shared, single, 1)
    assert run.scheduled_time == moment
    now = shared.doors.schedules.GetSchedule(schedule_pb2.GetScheduleRequest(schedule="singles"))
    assert not now.HasField("next_fire_at")
    assert now.last_run_id == run.id


def test_a_paused_schedule_does_not_fire_but_can_be_triggered(shared: House) -> None:
    quiet = task(shared, "quiet", ["/bin/true"])
    schedule(shared, "quiets", quiet, cron="0 0 1 1 *")
    pause(shared, "quiets")
    run = shared.doors.schedules.TriggerSchedule(schedule_pb2.TriggerScheduleRequest(schedule="quiets"))
    assert run.trigger_type == run_pb2.TRIGGER_TYPE_MANUAL
    assert shared.wait(run.id).state == run_pb2.RUN_STATE_SUCCEEDED
    assert len(runs_of(shared, quiet)) == 1


def test_kills_of_the_server_fire_nothing_twice(house: House) -> None:
    beat = task(house, "beat", ["/bin/true"])
    schedule(house, "beats", beat, every=seconds(1), overlap=schedule_pb2.OVERLAP_POLICY_ALLOW)
    for count in (1, 2, 3):
        at_least(house, beat, count)
        house.server.kill_dash_nine()
        house.start_server()
    seen = len(runs_of(house, beat))
    at_least(house, beat, seen + 2)
    due = instants(runs_of(house, beat))
    assert len(due) == len(set(due))


def test_a_firing_that_fell_into_a_restart_is_made_up_for_once(house: House) -> None:
    """A minute late is merely late, and fires whatever the policy about missed ones says."""
    single = task(house, "single", ["/bin/true"])
    moment = soon(1.5)
    schedule(house, "singles", single, once=moment)
    house.server.kill_dash_nine()
    wait_for(
        lambda: time.time() > moment.ToNanoseconds() / 1e9 + 0.1, what="the moment passes while the server is dead"
    )
    house.start_server()
    (run,) = at_least(house, single, 1)
    assert run.scheduled_time == moment
    house.server.kill_dash_nine()
    house.start_server()
    assert len(runs_of(house, single)) == 1


def test_a_firing_is_skipped_while_the_last_run_still_runs(house: House) -> None:
    house.agent("r1")
    arrived, gate, tally = house.fifo("arrived"), house.fifo("gate"), house.root / "tally"
    slow = task(house, "slow", python(PAUSE, tally, arrived.path, gate.path))
    schedule(house, "slows", slow, every=seconds(1))
    arrived.receive()
    runs = at_least(house, slow, 3)
    pause(house, "slows")
    assert [run.state for run in runs[1:3]] == [run_pb2.RUN_STATE_SKIPPED] * 2
    assert runs[1].reason == run_pb2.REASON_OVERLAP
    assert len(lines(tally)) == 1
    gate.send()
    assert house.wait(runs[0].id).state == run_pb2.RUN_STATE_SUCCEEDED
    assert all(run.state in FINISHED for run in runs_of(house, slow))
