"""Bad input, repeated requests, lists and watches."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from banksman.v1 import project_pb2, run_pb2, schedule_pb2, secret_pb2, session_pb2, spec_pb2, system_pb2, task_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.fakes.runner import exit_record
from tests.fakes.server import spec

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
EXISTS, ABORTED = grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.ABORTED


async def refusal(asked):
    """The error of a call, its code and the fields that it names."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asked
    error = caught.value
    reason, fields = "", []
    for detail in rpc_status.from_call(_Sync(error)).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason = info.reason
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            fields = [violation.field for violation in bad.field_violations]
    return error.code(), reason, fields


class _Sync:
    """An aio error as from_call wants it."""

    def __init__(self, error):
        self._error = error

    def code(self):
        return self._error.code()

    def details(self):
        return self._error.details()

    def trailing_metadata(self):
        return tuple(self._error.trailing_metadata())


async def test_all_offending_fields_are_named_in_one_answer(doors):
    bad = spec(
        "a\0b",
        timeout=Duration(seconds=-1),
        priority=1000,
        env=[spec_pb2.EnvVar(name="1A", value="x"), spec_pb2.EnvVar(name="BANKSMAN_X", value="x")],
        stop_signal="SIGSEGV",
    )
    request = run_pb2.CreateRunRequest(spec=bad, options=run_pb2.RunOptions(priority=-101))
    status, reason, fields = await refusal(doors.runs.CreateRun(request))
    assert (status, reason) == (INVALID, "INVALID_FIELDS")
    for field in ("argv[0]", "timeout", "priority", "env[0].name", "env[1].name", "stop_signal", "options.priority"):
        assert any(field in named for named in fields), (field, fields)
    assert (await doors.runs.ListRuns(run_pb2.ListRunsRequest())).runs == []


async def test_a_run_of_nothing_is_refused(doors):
    status, _, fields = await refusal(doors.runs.CreateRun(run_pb2.CreateRunRequest()))
    assert (status, fields) == (INVALID, ["what"])


async def test_unknown_things_are_not_found(doors):
    calls = [
        doors.run("01890000-0000-7000-8000-000000000001"),
        doors.run("nonsense"),
        doors.run("@last"),
        doors.tasks.GetTask(task_pb2.GetTaskRequest(task="x")),
        doors.runs.CreateRun(run_pb2.CreateRunRequest(task="x")),
        doors.projects.GetProject(project_pb2.GetProjectRequest(project="x")),
        doors.schedules.GetSchedule(schedule_pb2.GetScheduleRequest(schedule="x")),
        doors.secrets.DeleteSecret(secret_pb2.DeleteSecretRequest(name="X")),
        doors.log("01890000-0000-7000-8000-000000000001"),
    ]
    for asked in calls:
        assert (await refusal(asked))[0] is NOT_FOUND


async def test_the_same_request_makes_the_same_run_also_at_once_and_after_a_restart(server, doors):
    request = run_pb2.CreateRunRequest(spec=spec("true"), request_id="r-1")
    made = await asyncio.gather(*(doors.runs.CreateRun(request) for _ in range(8)))
    assert len({run.id for run in made}) == 1
    await server.stop()
    await server.start()
    doors = server.doors()
    assert (await doors.runs.CreateRun(request)).id == made[0].id
    request.spec.steps[0].command.argv.append("other")
    assert (await refusal(doors.runs.CreateRun(request)))[:2] == (EXISTS, "REQUEST_ID_REUSED")


async def test_a_task_is_active_unless_it_says_otherwise(doors):
    async def make(name, **words):
        asked = task_pb2.Task(name=name, spec=spec("true"), **words)
        return await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=asked))

    def update(change, *paths):
        mask = FieldMask(paths=paths)
        return doors.tasks.UpdateTask(task_pb2.UpdateTaskRequest(task=change, update_mask=mask))

    assert (await make("plain")).active
    assert (await make("on", active=True)).active
    off = await make("off", active=False)
    assert (off.HasField("active"), off.active) == (True, False)
    assert (await refusal(doors.tasks.RunTask(task_pb2.RunTaskRequest(task="off"))))[1] == "TASK_INACTIVE"
    assert not (await update(task_pb2.Task(id=off.id, name="off", spec=spec("true")))).active
    assert (await update(task_pb2.Task(id=off.id, active=True), "active")).active
    assert not (await update(task_pb2.Task(id=off.id, active=False), "active")).active


async def test_an_update_of_a_project_writes_what_its_mask_names(doors):
    async def update(*paths, **words):
        change = project_pb2.Project(id=made.id, **words)
        request = project_pb2.UpdateProjectRequest(project=change, update_mask=FieldMask(paths=paths))
        answer = await doors.projects.UpdateProject(request)
        return answer.name, answer.description

    asked = project_pb2.Project(name="web", description="sites")
    made = await doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=asked))
    assert await update("name", name="www", description="ignored") == ("www", "sites")
    assert await update("description", name="ignored", description="pages") == ("www", "pages")
    assert await update(name="web") == ("web", "")
    assert await update(description="all") == ("web", "all")
    assert (await refusal(update("name")))[2] == ["project.name"]
    assert (await refusal(update("name", "etag", name="x")))[2] == ["update_mask.paths[1]"]


async def test_an_update_needs_the_newest_etag(doors):
    asked = task_pb2.Task(name="t", spec=spec("true"))
    task = await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=asked))
    assert task.active
    change = task_pb2.Task(id=task.id, description="new", etag=task.etag)
    mask = FieldMask(paths=["description"])
    newer = await doors.tasks.UpdateTask(task_pb2.UpdateTaskRequest(task=change, update_mask=mask))
    assert (newer.description, newer.name, newer.etag != task.etag) == ("new", "t", True)
    again = doors.tasks.UpdateTask(task_pb2.UpdateTaskRequest(task=change, update_mask=mask))
    assert (await refusal(again))[:2] == (ABORTED, "ETAG_MISMATCH")
    change.etag = newer.etag
    other = FieldMask(paths=["description", "created_by"])
    status, _, fields = await refusal(
        doors.tasks.UpdateTask(task_pb2.UpdateTaskRequest(task=change, update_mask=other))
    )
    assert (status, fields) == (INVALID, ["update_mask.paths[1]"])


async def test_a_task_that_is_not_active_is_not_run(doors):
    await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task_pb2.Task(name="t", spec=spec("true"))))
    off = task_pb2.UpdateTaskRequest(
        task=task_pb2.Task(name="t", active=False), update_mask=FieldMask(paths=["active"])
    )
    assert not (await doors.tasks.UpdateTask(off)).active
    asked = doors.tasks.RunTask(task_pb2.RunTaskRequest(task="t"))
    assert (await refusal(asked))[1] == "TASK_INACTIVE"


async def test_a_deleted_task_takes_its_queued_runs_along(doors):
    await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task_pb2.Task(name="t", spec=spec("true"))))
    run = await doors.tasks.RunTask(task_pb2.RunTaskRequest(task="t"))
    await doors.tasks.DeleteTask(task_pb2.DeleteTaskRequest(task="t"))
    gone = await doors.run(run.id)
    assert (gone.state, gone.reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.REASON_TASK_DELETED)
    assert gone.task_name == "t"


async def test_pages_follow_each_other_and_their_tokens_belong_to_one_filter(doors):
    runs = [await doors.submit() for _ in range(5)]
    first = await doors.runs.ListRuns(run_pb2.ListRunsRequest(page_size=2, include_total_size=True))
    assert (first.total_size, [run.id for run in first.runs]) == (5, [runs[4].id, runs[3].id])
    assert not first.runs[0].HasField("spec")
    token = first.next_page_token
    second = await doors.runs.ListRuns(run_pb2.ListRunsRequest(page_size=2, page_token=token))
    assert [run.id for run in second.runs] == [runs[2].id, runs[1].id]
    for other in ({"states": [run_pb2.RUN_STATE_QUEUED]}, {"created_after": Timestamp(seconds=1)}):
        asked = doors.runs.ListRuns(run_pb2.ListRunsRequest(page_size=2, page_token=token, **other))
        assert (await refusal(asked))[:2] == (INVALID, "PAGE_TOKEN_INVALID")
    asked = doors.runs.ListRuns(run_pb2.ListRunsRequest(page_size=-1))
    assert (await refusal(asked))[2] == ["page_size"]
    asked = doors.runs.ListRuns(run_pb2.ListRunsRequest(states=[1, 99, 0]))
    assert (await refusal(asked))[2] == ["states[1]", "states[2]"]


async def test_short_ids_and_the_callers_newest(doors):
    run = await doors.submit()
    assert (await doors.run(run.id[-8:])).id == run.id
    assert (await doors.run("@last")).id == run.id


async def test_the_callers_newest_is_that_of_the_project_in_use(doors):
    web = project_pb2.Project(name="web")
    await doors.projects.CreateProject(project_pb2.CreateProjectRequest(project=web))
    asked = doors.runs.GetRun(run_pb2.GetRunRequest(run="@last", project="web"))
    run = await doors.submit()
    assert (await refusal(asked))[1] == "RUN_NOT_FOUND"
    elsewhere = await doors.submit(project="web")
    for project, expected in (("", run), ("default", run), ("web", elsewhere)):
        found = await doors.runs.GetRun(run_pb2.GetRunRequest(run="@last", project=project))
        assert found.id == expected.id
    for text in (elsewhere.id, elsewhere.id[-8:]):
        assert (await doors.run(text)).id == elsewhere.id, "an id is one wherever it is"


async def test_a_watch_goes_on_behind_its_token_without_a_gap(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    stream = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run.id), timeout=30)
    present = await stream.read()
    assert (present.run.id, present.HasField("event")) == (run.id, False)
    stream.cancel()
    async with runner.session() as (session, _):
        await session.exited((await session.accept()).key, exit_record(0))
        await doors.settled(run.id)
    seen, token = [], present.resume_token
    wanted = [
        run_pb2.RUN_EVENT_TYPE_OFFERED,
        run_pb2.RUN_EVENT_TYPE_ACCEPTED,
        run_pb2.RUN_EVENT_TYPE_STARTED,
        run_pb2.RUN_EVENT_TYPE_SUCCEEDED,
        run_pb2.RUN_EVENT_TYPE_SETTLED,
    ]
    while len(seen) < len(wanted):
        stream = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run.id, resume_token=token), timeout=30)
        for _ in range(min(2, len(wanted) - len(seen))):
            change = await stream.read()
            seen.append(change.event.type)
            token = change.resume_token
        stream.cancel()
    assert seen == wanted


async def test_a_projects_watch_shows_new_runs(doors):
    old = await doors.submit()
    stream = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(), timeout=30)
    assert (await stream.read()).run.id == old.id
    new = await doors.submit()
    change = await stream.read()
    assert (change.run.id, change.event.type) == (new.id, run_pb2.RUN_EVENT_TYPE_CREATED)
    stream.cancel()


async def test_a_token_of_another_watch_is_refused(doors):
    run, other = await doors.submit(), await doors.submit()
    stream = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(run=run.id), timeout=30)
    token = (await stream.read()).resume_token
    stream.cancel()
    for words in ({"run": other.id, "resume_token": token}, {"run": run.id, "resume_token": "x"}):
        asked = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(**words), timeout=30).read()
        assert (await refusal(asked))[:2] == (INVALID, "RESUME_TOKEN_INVALID")


async def test_waiting_ends_with_the_run_or_with_the_time(server, doors):
    runner = await server.runner()
    run = await doors.submit()
    request = run_pb2.WaitRunRequest(run=run.id, timeout=Duration())
    assert (await doors.runs.WaitRun(request)).state == run_pb2.RUN_STATE_QUEUED
    request.timeout.seconds = 30
    async with runner.session() as (stream, _), asyncio.TaskGroup() as group:
        waiting = group.create_task(_call(doors.runs.WaitRun(request)))
        await stream.exited((await stream.accept()).key, exit_record(0))
    assert waiting.result().state == run_pb2.RUN_STATE_SUCCEEDED
    bad = run_pb2.WaitRunRequest(run=run.id, timeout=Duration(seconds=-1), wait_for=9)
    assert (await refusal(doors.runs.WaitRun(bad)))[2] == ["timeout", "wait_for"]


async def _call(asked):
    return await asked


async def test_a_schedule_is_made_previewed_paused_and_triggered(doors):
    await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task_pb2.Task(name="t", spec=spec("true"))))
    asked = schedule_pb2.Schedule(name="nightly", task_id="t", cron="30 2 * * *", time_zone="Europe/Berlin")
    made = await doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=asked))
    assert (made.task_name, made.cron, made.HasField("next_fire_at")) == ("t", "30 2 * * *", True)
    seen = await doors.schedules.PreviewSchedule(schedule_pb2.PreviewScheduleRequest(schedule="nightly", count=3))
    assert (len(seen.fire_times), seen.fire_times[0]) == (3, made.next_fire_at)
    paused = await doors.schedules.PauseSchedule(schedule_pb2.PauseScheduleRequest(schedule="nightly", note="why"))
    assert (paused.paused, paused.pause_note, paused.HasField("next_fire_at")) == (True, "why", False)
    run = await doors.schedules.TriggerSchedule(schedule_pb2.TriggerScheduleRequest(schedule="nightly"))
    assert (run.schedule_id, run.task_name) == (made.id, "t")
    every = schedule_pb2.Schedule(name="nightly", every=Duration(seconds=3600))
    mask = FieldMask(paths=["every"])
    request = schedule_pb2.UpdateScheduleRequest(schedule=every, update_mask=mask)
    assert (await doors.schedules.UpdateSchedule(request)).every.seconds == 3600
    await doors.schedules.DeleteSchedule(schedule_pb2.DeleteScheduleRequest(schedule="nightly"))
    assert not (await doors.schedules.ListSchedules(schedule_pb2.ListSchedulesRequest())).schedules


async def test_a_bad_schedule_names_all_that_is_wrong(doors):
    bad = schedule_pb2.Schedule(name="", cron="61 * * * *", time_zone="Mars/Olympus")
    status, _, fields = await refusal(doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=bad)))
    assert status is INVALID
    assert {"schedule.name", "schedule.task_id", "schedule.cron", "schedule.time_zone"} <= set(fields)


async def test_a_due_schedule_fires_by_itself(doors):
    await doors.tasks.CreateTask(task_pb2.CreateTaskRequest(task=task_pb2.Task(name="t", spec=spec("true"))))
    watch = doors.runs.WatchRuns(run_pb2.WatchRunsRequest(), timeout=30)
    asked = schedule_pb2.Schedule(name="tick", task_id="t", every=Duration(seconds=1))
    await doors.schedules.CreateSchedule(schedule_pb2.CreateScheduleRequest(schedule=asked))
    change = await watch.read()
    assert (change.run.trigger_type, change.run.task_name) == (run_pb2.TRIGGER_TYPE_SCHEDULED, "t")
    watch.cancel()


async def test_a_secret_travels_only_in_the_assignment(server, doors):
    value = b"swordfish-and-more"
    await doors.secrets.SetSecret(secret_pb2.SetSecretRequest(name="KEY", value=value))
    (listed,) = (await doors.secrets.ListSecrets(secret_pb2.ListSecretsRequest())).secrets
    assert value not in listed.SerializeToString()
    runner = await server.runner()
    env = [spec_pb2.EnvVar(name="KEY", secret_ref="KEY")]
    run = await doors.submit(spec={"env": env})
    async with runner.session() as (stream, _):
        offer = await stream.expect("offer")
        assert value not in offer.SerializeToString()
        await stream.send(offer_reply=session_pb2.OfferReply(key=offer.key, accept=True))
        assignment = await stream.expect("assignment")
        assert dict(assignment.secrets) == {"KEY": value}
    assert value not in (await doors.run(run.id)).SerializeToString()
    for file in server.state.rglob("*"):
        if file.is_file():
            assert value not in file.read_bytes(), file
    status, reason, fields = await refusal(doors.submit(spec={"env": [spec_pb2.EnvVar(name="X", secret_ref="ABSENT")]}))
    assert (status, reason, fields) == (INVALID, "SECRET_UNKNOWN", ["spec.env[0].secret_ref"])


async def test_the_server_describes_itself(server, doors):
    info = await doors.system.GetServerInfo(system_pb2.GetServerInfoRequest())
    assert info.version
    assert len(info.instance_id) == 36
    await doors.submit()
    status = await doors.system.GetStatus(system_pb2.GetStatusRequest())
    assert (status.runs_queued, status.runners_connected) == (1, 0)
    assert status.database_bytes > 0
    assert status.disk_free_bytes > 0
