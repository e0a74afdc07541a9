"""The things of a scripted control plane that the tests of verbs talk about."""

from __future__ import annotations

from banksman.v1 import project_pb2, run_pb2, runner_pb2, schedule_pb2, spec_pb2, task_pb2
from google.protobuf import duration_pb2

RUN = run_pb2.Run(id="0199aaaa-bbbb-7ccc-8ddd-eeee12345678", state=run_pb2.RUN_STATE_QUEUED, is_active=True)
ENDED = run_pb2.Run(id=RUN.id, project_id="p1", state=run_pb2.RUN_STATE_CANCELLED, kill_confirmed=True)
TASK = task_pb2.Task(id="t1", name="build", etag="e1", spec=spec_pb2.RunSpec(slots=2, steps=[spec_pb2.Step()]))
SCHEDULE = schedule_pb2.Schedule(id="s1", name="nightly", cron="@daily", etag="e1")
PROJECT = project_pb2.Project(id="p1", name="web", etag="e1")
RUNNER = runner_pb2.Runner(id="r1", name="host", connected=True)


def seconds(count: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=count)
