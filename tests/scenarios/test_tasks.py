"""Tasks against running things: a deletion in the middle of runs, inactive tasks, and tasks as files."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
import yaml
from banksman.v1 import run_pb2, schedule_pb2, spec_pb2, task_pb2

from tests.scenarios.house import House
from tests.scenarios.specs import spec

QUEUED, RUNNING = run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_RUNNING


def create(house: House, name: str, run_spec: spec_pb2.RunSpec, **fields: Any) -> task_pb2.Task:
    task = task_pb2.Task(name=name, spec=run_spec, **fields)
    return house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task))


def run_task(house: House, name: str, **options: Any) -> run_pb2.Run:
    request = task_pb2.RunTaskRequest(task=name, options=run_pb2.RunOptions(**options))
    return house.doors.tasks.RunTask(request)


def test_a_deletion_lets_assigned_runs_finish_and_queues_nothing_again(shared: House) -> None:
    hold = shared.fifo("deletion")
    program = f"read line < {hold.path}; exit $BANKSMAN_VAR_CODE"
    create(shared, "to go", spec(["/bin/sh", "-c", program], retry=spec_pb2.RetryPolicy(max_attempts=5)))
    good, bad = (run_task(shared, "to go", variables={"code": {"number_value": code}}) for code in (0, 3))
    for run in (good, bad):
        shared.wait_state(run.id, RUNNING)
    waiting = run_task(shared, "to go", variables={"code": {"number_value": 0}}, not_before=in_an_hour())
    shared.doors.tasks.DeleteTask(task_pb2.DeleteTaskRequest(task="to go"))
    waiting = shared.wait(waiting.id)
    assert (waiting.state, waiting.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_TASK_DELETED)
    assert shared.get(good.id).state == shared.get(bad.id).state == RUNNING
    hold.send(2)
    good, bad = shared.wait(good.id), shared.wait(bad.id)
    assert good.state == run_pb2.RUN_STATE_SUCCEEDED
    assert bad.state not in (run_pb2.RUN_STATE_SUCCEEDED, QUEUED), "it is over although a try was left"
    assert (bad.reason, bad.exit_code) == (run_pb2.REASON_TASK_DELETED, 3), bad
    assert (len(bad.attempts), bad.task_name) == (1, "to go")
    with pytest.raises(grpc.RpcError) as caught:
        run_task(shared, "to go")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    shared.doors.tasks.UndeleteTask(task_pb2.UndeleteTaskRequest(task="to go"))
    hold.send()
    again = shared.wait(run_task(shared, "to go", variables={"code": {"number_value": 0}}).id)
    assert again.state == run_pb2.RUN_STATE_SUCCEEDED


def in_an_hour() -> Any:
    from google.protobuf.timestamp_pb2 import Timestamp

    now = Timestamp()
    now.GetCurrentTime()
    now.seconds += 3600
    return now


def test_an_inactive_task_is_refused_and_its_firings_are_skipped(shared: House) -> None:
    task = create(shared, "resting", spec(["true"]), schedules=[schedule_pb2.Schedule(cron="@yearly")])
    assert [(each.name, each.cron) for each in task.schedules] == [("resting", "@yearly")]
    update = task_pb2.UpdateTaskRequest(task=task_pb2.Task(name="resting", active=False))
    update.update_mask.paths.append("active")
    shared.doors.tasks.UpdateTask(update)
    with pytest.raises(grpc.RpcError) as caught:
        run_task(shared, "resting")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "not active" in caught.value.details()
    fired = shared.doors.schedules.TriggerSchedule(schedule_pb2.TriggerScheduleRequest(schedule="resting"))
    assert (fired.state, fired.reason) == (run_pb2.RUN_STATE_SKIPPED, run_pb2.REASON_TASK_INACTIVE)


FILE = """
description: from a file
tags: [a, b]
spec: {command: [/bin/echo, "{{ greeting }}", "{{ n }}"], timeout: 1m}
variables: {greeting: hello, n: 3, key: {secret: KEY}, who: {sensitive: true}}
unknown_variables: refuse
allowed_overrides: [timeout]
is_public: true
schedules: [{cron: "0 3 * * *", time_zone: Europe/Berlin, overlap: allow}]
report: {enabled: true, formats: [html]}
notifications: [{events: [failed], webhook_url: "https://example.org/hook"}]
"""


def test_a_task_goes_through_a_file_and_back(shared: House) -> None:
    def cli(*arguments: str, input: str = "") -> str:
        done = shared.cli(*arguments, input=input.encode())
        assert done.returncode == 0, (arguments, done.stderr.decode())
        return done.stdout.decode()

    cli("secret", "set", "KEY", input="correct horse")
    cli("task", "create", "filed", "-f", "-", input=FILE)
    shown = json.loads(cli("task", "get", "filed", "-o", "json"))
    assert [variable["name"] for variable in shown["variables"]] == ["greeting", "n", "key", "who"]
    assert shown["schedules"][0]["time_zone"] == "Europe/Berlin"
    assert (shown["report"]["formats"], shown["is_public"]) == (["REPORT_FORMAT_HTML"], True)
    text = cli("task", "get", "filed", "-o", "yaml")
    data = yaml.safe_load(text)
    data["description"] = "changed"
    cli("task", "update", "filed", "-f", "-", input=yaml.safe_dump(data))
    fresh = json.loads(cli("task", "get", "filed", "-o", "json"))
    changed = {name for name in shown if shown[name] != fresh[name]}
    assert changed == {"description", "etag", "updated_at"}
    assert "greeting=hello, n=3, key=secret:KEY, who (sensitive)" in cli("task", "get", "filed")
    refused = shared.cli("task", "update", "filed", "-f", "-", input=yaml.safe_dump(data).encode())
    assert refused.returncode == 6, "the etag in the file is the old one"
    assert cli("task", "list", "--tag", "a", "--filter", "public = true", "-o", "name") == "filed\n"
