"""Limits and retention with real programs: places are freed by what really ends, and what is kept no longer is gone."""

from __future__ import annotations

import grpc
import pytest
from banksman.v1 import limit_pb2, log_pb2, project_pb2, run_pb2, system_pb2, task_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tests.scenarios.house import House
from tests.scenarios.specs import spec
from tests.waiting import wait_for

QUEUED, RUNNING = run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_RUNNING
SUCCEEDED, CANCELLED = run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_CANCELLED


def task(house: House, name: str, argv: list[str], on_limit: int) -> None:
    limit = limit_pb2.ConcurrencyLimit(limit=1, key="{{ key }}", on_limit=on_limit)
    what = task_pb2.Task(name=name, spec=spec(argv, concurrency=[limit]))
    house.doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=what))


def run(house: House, name: str, key: str) -> run_pb2.Run:
    options = run_pb2.RunOptions()
    options.variables["key"].string_value = key
    return house.doors.tasks.RunTask(task_pb2.RunTaskRequest(task=name, options=options))


def test_a_place_is_free_when_the_program_that_held_it_has_ended(shared: House) -> None:
    hold = shared.fifo("place")
    task(shared, "one at a time", ["/bin/sh", "-c", f"read line < {hold.path}"], limit_pb2.ON_LIMIT_QUEUE)
    first, second = (run(shared, "one at a time", "a") for _ in range(2))
    other = run(shared, "one at a time", "b")
    for each in (first, other):
        shared.wait_state(each.id, RUNNING)
    wait_for(lambda: first.id in shared.get(second.id).waiting_because, what="the run says who holds the place")
    assert shared.get(second.id).state == QUEUED
    hold.send(2)
    assert shared.wait(first.id).state == SUCCEEDED
    shared.wait_state(second.id, RUNNING)
    hold.send()
    done = shared.wait(second.id)
    assert done.state == SUCCEEDED
    assert done.started_at.ToNanoseconds() > shared.get(first.id).completed_at.ToNanoseconds()


def test_a_newer_run_takes_the_place_of_a_living_one(shared: House) -> None:
    task(shared, "newest only", ["/bin/sh", "-c", "exec sleep $BANKSMAN_VAR_S"], limit_pb2.ON_LIMIT_CANCEL_RUNNING)
    options = run_pb2.RunOptions()
    options.variables["s"].number_value = 600
    old = shared.doors.tasks.RunTask(task_pb2.RunTaskRequest(task="newest only", options=options))
    shared.wait_state(old.id, RUNNING)
    options.variables["s"].number_value = 0
    new = shared.doors.tasks.RunTask(task_pb2.RunTaskRequest(task="newest only", options=options))
    assert shared.wait(new.id).state == SUCCEEDED
    old = shared.wait(old.id)
    assert (old.state, old.reason, old.kill_confirmed) == (CANCELLED, run_pb2.REASON_SUPERSEDED, True)


def in_short(house: House, name: str, **kept: Duration) -> str:
    """A project that keeps things for so long."""
    project = project_pb2.Project(name=name, retention=limit_pb2.Retention(**kept))
    return house.doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=project)).id


def settled(house: House, project: str) -> run_pb2.Run:
    request = run_pb2.CreateRunRequest(project=project, spec=spec(["echo", "hello"]))
    return house.wait(house.doors.runs.CreateRun(request).id)


def read_log(house: House, run_id: str) -> bytes:
    stream = house.doors.logs.ReadLogs(log_pb2.ReadLogsRequest(run=run_id), timeout=30)
    return b"".join(record.data for item in stream for record in item.batch.records)


def collect(house: House, *, dry_run: bool = False) -> dict[str, system_pb2.Garbage]:
    found = house.doors.system.CollectGarbage(system_pb2.CollectGarbageRequest(dry_run=dry_run), timeout=30)
    return {each.project: each for each in found.garbage}


def test_logs_go_before_their_runs_and_pinned_runs_stay_whole(shared: House) -> None:
    second = Duration(seconds=1)
    project = in_short(shared, "short", logs=second)
    gone, pinned = settled(shared, project), settled(shared, project)
    assert shared.doors.runs.PinRun(run_pb2.PinRunRequest(run=pinned.id)).pinned
    assert read_log(shared, gone.id) == b"hello\n"
    wait_for(lambda: "short" in collect(shared, dry_run=True), what="the log is too old")
    assert read_log(shared, gone.id) == b"hello\n"
    found = collect(shared)["short"]
    assert (found.runs, found.logs) == (0, 1)
    with pytest.raises(grpc.RpcError) as caught:
        read_log(shared, gone.id)
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert read_log(shared, pinned.id) == b"hello\n"
    (attempt,) = shared.get(gone.id).attempts
    assert (attempt.log_bytes, attempt.log_digest, attempt.HasField("log_expired_at")) == (
        6,
        gone.attempts[0].log_digest,
        True,
    )
    change = project_pb2.Project(id=project, retention=limit_pb2.Retention(runs=second))
    mask = FieldMask(paths=["retention"])
    shared.doors.projects.UpdateProject(project_pb2.UpdateProjectRequest(project=change, update_mask=mask))
    assert collect(shared)["short"].runs == 1
    with pytest.raises(grpc.RpcError) as caught:
        shared.get(gone.id)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert read_log(shared, pinned.id) == b"hello\n"
