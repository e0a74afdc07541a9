"""What is asked twice is done once; what is asked badly is refused in words, before anything is stored."""

from __future__ import annotations

import concurrent.futures

import grpc
import pytest
from banksman.v1 import run_pb2, task_pb2

from tests.scenarios.house import House
from tests.scenarios.specs import command, seconds, spec


def refused(call: object, *arguments: object, **fields: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        call(*arguments, **fields)  # type: ignore[operator]
    return raised.value


def test_the_same_request_at_the_same_time_makes_one_run(shared: House) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(shared.submit, spec(["/bin/true"]), request_id="the-same") for _ in range(32)]
        runs = {future.result().id for future in asked}
    assert len(runs) == 1


def test_the_same_request_id_with_another_body_is_refused(shared: House) -> None:
    shared.submit(spec(["/bin/true"]), request_id="taken")
    error = refused(shared.submit, spec(["/bin/false"]), request_id="taken")
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS


def test_all_offending_fields_are_named_in_one_answer(shared: House) -> None:
    bad = spec(command(["a\0b"]), timeout=seconds(-1), priority=101, grace=seconds(3601))
    error = refused(shared.submit, bad)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    text = f"{error.details()} {error.trailing_metadata()!r}"
    for field in ("argv", "timeout", "priority", "grace"):
        assert field in text


def test_a_bad_request_stores_nothing(house: House) -> None:
    refused(house.submit, spec([]))
    refused(house.submit, spec(["/bin/true"], priority=-101))
    assert not house.doors.runs.ListRuns(run_pb2.ListRunsRequest()).runs


def test_what_does_not_exist_is_not_found(shared: House) -> None:
    for run in ("00000000-0000-7000-8000-000000000000", "deadbeef"):
        assert refused(shared.get, run).code() is grpc.StatusCode.NOT_FOUND
    error = refused(shared.doors.tasks.GetTask, task_pb2.GetTaskRequest(task="no such"))
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_short_ids_and_last_name_a_run(house: House) -> None:
    first, second = house.submit(spec(["/bin/true"])), house.submit(spec(["/bin/true"]))
    assert house.get(first.id[-8:]).id == first.id
    assert house.get("@last").id == second.id


def test_an_old_etag_is_refused(shared: House) -> None:
    made = shared.doors.tasks.CreateTask(
        task_pb2.CreateTaskRequest(task=task_pb2.Task(name="etag", spec=spec(["/bin/true"])))
    )
    renamed = task_pb2.Task(id=made.id, name="etag", description="one", spec=made.spec, etag=made.etag)
    assert shared.doors.tasks.UpdateTask(task_pb2.UpdateTaskRequest(task=renamed)).etag != made.etag
    error = refused(shared.doors.tasks.UpdateTask, task_pb2.UpdateTaskRequest(task=renamed))
    assert error.code() is grpc.StatusCode.ABORTED


def test_a_watcher_resumes_where_it_was(house: House) -> None:
    first = house.submit(spec(["/bin/true"]))
    watch = house.doors.runs.WatchRuns(run_pb2.WatchRunsRequest())
    token = next(iter(watch)).resume_token
    watch.cancel()
    second = house.submit(spec(["/bin/true"]))
    house.cancel(first.id)
    seen: list[tuple[str, int]] = []
    for change in house.doors.runs.WatchRuns(run_pb2.WatchRunsRequest(resume_token=token)):
        seen.append((change.event.run_id, change.event.type))
        if seen[-1] == (first.id, run_pb2.RUN_EVENT_TYPE_CANCELLED):
            break
    assert (second.id, run_pb2.RUN_EVENT_TYPE_CREATED) in seen
    assert len(seen) == len(set(seen))
