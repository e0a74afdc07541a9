"""What a schedule does beside firing: queues, supersedes, pauses itself, is backfilled, brings values, looks ahead."""

from __future__ import annotations

import itertools
import json
import time

import grpc
import pytest
from banksman.v1 import run_pb2, schedule_pb2, spec_pb2, task_pb2
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from tests.scenarios.children import PAUSE, lines, python
from tests.scenarios.house import House
from tests.scenarios.specs import seconds, spec
from tests.scenarios.test_schedules import at_least, instants, pause, runs_of, schedule, task
from tests.waiting import wait_for


def stamp(at_s: float) -> Timestamp:
    moment = Timestamp()
    moment.FromSeconds(round(at_s))
    return moment


def stored(house: House, name: str) -> schedule_pb2.Schedule:
    return house.doors.schedules.GetSchedule(schedule_pb2.GetScheduleRequest(schedule=name))


def test_runs_that_queue_start_one_after_another(house: House) -> None:
    house.agent("r1", slots=8)
    arrived, gate, tally = house.fifo("arrived"), house.fifo("gate"), house.root / "tally"
    slow = task(house, "slow", python(PAUSE, tally, arrived.path, gate.path))
    schedule(house, "slows", slow, cron="0 0 1 1 *", overlap=schedule_pb2.OVERLAP_POLICY_QUEUE_ALL)
    trigger = schedule_pb2.TriggerScheduleRequest(schedule="slows")
    _, second, _ = (house.doors.schedules.TriggerSchedule(trigger) for _ in range(3))
    arrived.receive()
    first = runs_of(house, slow)[0]
    wait_for(lambda: first.id in house.get(second.id).waiting_because, what="it says why it waits")
    # A restart in between lets nobody slip through.
    house.server.kill_dash_nine()
    house.start_server()
    for number, run in enumerate(runs_of(house, slow), 1):
        if number > 1:
            arrived.receive()
        assert len(lines(tally)) == number, "two at once"
        gate.send()
        assert house.wait(run.id).state == run_pb2.RUN_STATE_SUCCEEDED


def test_a_firing_ends_the_run_before_it(shared: House) -> None:
    house, tally = shared, shared.root / "superseded"
    slow = task(house, "endless", ["/bin/sh", "-c", f"echo $$ >> {tally}; exec sleep 600"])
    made = schedule(house, "endless", slow, cron="0 0 1 1 *", overlap=schedule_pb2.OVERLAP_POLICY_CANCEL_RUNNING)
    trigger = schedule_pb2.TriggerScheduleRequest(schedule=made.id)
    first = house.doors.schedules.TriggerSchedule(trigger)
    wait_for(lambda: tally.exists() and lines(tally), what="it runs")
    second = house.doors.schedules.TriggerSchedule(trigger)
    done = house.wait(first.id)
    assert (done.state, done.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_SUPERSEDED)
    wait_for(lambda: len(lines(tally)) == 2, what="the second runs")
    house.doors.runs.CancelRun(run_pb2.CancelRunRequest(run=second.id))
    house.wait(second.id)


def test_it_pauses_itself_after_failures_and_goes_on_when_resumed(shared: House) -> None:
    bad = task(shared, "bad", ["/bin/false"])
    schedule(shared, "bads", bad, every=seconds(1), pause_after_failures=2)
    wait_for(lambda: stored(shared, "bads").paused, what="it pauses itself")
    now = stored(shared, "bads")
    ended = [run for run in runs_of(shared, bad) if run.state == run_pb2.RUN_STATE_FAILED]
    assert now.failures == len(ended) == 2
    assert ended[-1].id in now.pause_note
    assert not now.HasField("next_fire_at")
    shared.doors.schedules.ResumeSchedule(schedule_pb2.ResumeScheduleRequest(schedule="bads"))
    wait_for(lambda: stored(shared, "bads").paused, what="it pauses itself again")


def test_a_range_is_backfilled_once_whatever_happens(house: House) -> None:
    house.agent("r1", slots=2)
    quick = task(house, "quick", ["/bin/true"])
    schedule(house, "quicks", quick, cron="*/5 * * * *")
    pause(house, "quicks")
    end_s = time.time() // 300 * 300
    asked = schedule_pb2.BackfillScheduleRequest(
        schedule="quicks", start_at=stamp(end_s - 1_200), end_at=stamp(end_s), dry_run=True
    )
    wanted = [at.seconds for at in house.doors.schedules.BackfillSchedule(asked).scheduled_times]
    assert wanted == [round(end_s) - 300 * number for number in range(4, 0, -1)]
    assert not runs_of(house, quick)
    asked.dry_run = False
    done = house.doors.schedules.BackfillSchedule(asked)
    house.server.kill_dash_nine()
    house.start_server()
    again = house.doors.schedules.BackfillSchedule(asked)
    assert (len(done.run_ids), len(again.run_ids), again.fired_before) == (4, 0, 4)
    runs = [house.wait(run_id) for run_id in done.run_ids]
    assert [run.scheduled_time.seconds for run in runs] == wanted
    assert {(run.state, run.trigger_type) for run in runs} == {
        (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.TRIGGER_TYPE_BACKFILL)
    }
    times = [(run.attempts[0].started_at.ToNanoseconds(), run.completed_at.ToNanoseconds()) for run in runs]
    assert times == sorted(times)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times)), "one after another"


def test_values_windows_and_what_became_of_it(shared: House) -> None:
    asked = task_pb2.Task(
        name="greet",
        spec=spec(["/bin/echo", "hello {{ who }}"]),
        variables=[task_pb2.Variable(name="who", required=True)],
    )
    shared.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=asked))
    made = shared.cli(
        *("schedule", "create", "greets", "--task", "greet", "--every", "1s", "--var", "who=world"),
        *("--end-at", "3s", "-o", "json"),
    )
    assert made.returncode == 0, made.stderr
    end = Timestamp()
    end.FromJsonString(json.loads(made.stdout)["end_at"])
    wait_for(lambda: not stored(shared, "greets").HasField("next_fire_at"), what="its end")
    greeted = shared.doors.tasks.GetTask(task_pb2.GetTaskRequest(task="greet"))
    runs = runs_of(shared, greeted)
    assert runs
    assert max(instants(runs)) < end.ToNanoseconds()
    assert shared.log(shared.wait(runs[0].id).id) == b"hello world\n"
    shown = shared.cli("schedule", "firings", "greets", "-o", "jsonl")
    firings = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [firing["run_id"] for firing in firings] == [run.id for run in runs][::-1]


def test_an_inactive_task_leaves_skipped_firings_and_a_deleted_one_none(shared: House) -> None:
    idle = task(shared, "idle", ["/bin/true"])
    schedule(shared, "idles", idle, every=seconds(1))
    shared.cli("task", "update", "idle", "--inactive")
    skipped = wait_for(
        lambda: [run for run in runs_of(shared, idle) if run.state == run_pb2.RUN_STATE_SKIPPED],
        what="a skipped firing",
    )
    assert skipped[0].reason == run_pb2.REASON_TASK_INACTIVE
    told = [line.split("\t") for line in shared.cli("schedule", "firings", "idles").stdout.decode().splitlines()]
    assert [line[2:5] for line in told if line[2] == skipped[0].id] == [[skipped[0].id, "SKIPPED", "TASK_INACTIVE"]]
    shared.cli("task", "delete", "idle", "--yes")
    count = len(runs_of(shared, idle))
    beat = task(shared, "beat too", ["/bin/true"])
    schedule(shared, "beats too", beat, every=seconds(1))
    at_least(shared, beat, 2)
    pause(shared, "beats too")
    assert len(runs_of(shared, idle)) == count


def test_a_preview_tells_local_times_across_a_change_of_the_clock(shared: House) -> None:
    start = Timestamp()
    start.FromJsonString("2040-03-24T12:00:00Z")
    draft = schedule_pb2.Schedule(cron="30 2 * * *", time_zone="Europe/Berlin", start_at=start)
    seen = shared.doors.schedules.PreviewSchedule(schedule_pb2.PreviewScheduleRequest(draft=draft, count=2))
    assert list(seen.local_times) == ["2040-03-25T03:00:00+02:00", "2040-03-26T02:30:00+02:00"]
    shown = shared.cli("schedule", "next", "30 2 * * *", "--tz", "Europe/Berlin", "--start-at", "2040-03-24T12:00:00Z")
    assert "2040-03-25T03:00:00+02:00" in shown.stdout.decode()


@pytest.mark.parametrize("line", ["61 3 * * *", "0 3 30 2 *"])
def test_a_task_whose_schedule_is_wrong_is_refused_and_the_place_is_named(shared: House, line: str) -> None:
    wrong = schedule_pb2.Schedule(cron=line, jitter=seconds(86_401), max_catch_up=101, pause_after_failures=-1)
    wrong.variables["1x"].CopyFrom(Value(string_value="x"))
    asked = task_pb2.Task(name="never made", spec=spec_pb2.RunSpec(), schedules=[wrong])
    with pytest.raises(grpc.RpcError) as caught:
        shared.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=asked))
    told = str(caught.value)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for part in ("cron", "jitter", "max_catch_up", "pause_after_failures", "variables[1x]"):
        assert f"task.schedules[0].{part}" in told
    shown = shared.cli("task", "create", "never made", "--cron", line, "--", "true")
    assert shown.returncode == 2
    assert (
        "field 1 (minute), at character 1" if line.startswith("61") else "it would never fire"
    ) in shown.stderr.decode()
    assert shared.cli("task", "get", "never made").returncode == 3
