"""Requests that are right but for a few fields: they pass the first checks, and trouble the rules behind them."""

from __future__ import annotations

import random
from typing import Any

from banksman.v1 import access_pb2, project_pb2, run_pb2, runner_pb2, schedule_pb2, secret_pb2, spec_pb2, task_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value
from hypothesis import strategies as st

from tests.integration.server.messages import KNOWN, messages

# What answers to a field of this name.
_THERE = {"run": "@last", "runner": "r1", "principal": "mal", "name": "x"}
# How many of the fields are noise.
NOISE = 0.12
_SPEC = spec_pb2.RunSpec(
    steps=[
        spec_pb2.Step(
            kind=spec_pb2.STEP_KIND_MAIN,
            command=spec_pb2.Command(argv=["echo", "{{ v }}"]),
            env=[spec_pb2.EnvVar(name="A", value="b")],
        )
    ],
    env=[spec_pb2.EnvVar(name="S", secret_ref="x")],
    selectors=[spec_pb2.Selector(key="os", operator=spec_pb2.SELECTOR_OPERATOR_IN, values=["linux"])],
    slots=1,
    timeout=Duration(seconds=60),
    retry=spec_pb2.RetryPolicy(max_attempts=2),
    priority=1,
)
_OPTIONS = run_pb2.RunOptions(
    title="t",
    trigger_metadata={"a": "b"},
    labels={"k": "v"},
    variables={"v": Value(string_value="w")},
    priority=2,
)
_TASK = task_pb2.Task(
    name="another",
    spec=_SPEC,
    tags=["nightly"],
    labels={"k": "v"},
    variables=[task_pb2.Variable(name="v", default_value=Value(string_value="d"))],
    report=task_pb2.ReportSettings(enabled=True, formats=[task_pb2.REPORT_FORMAT_JSON]),
)
_SCHEDULE = schedule_pb2.Schedule(name="s", task_id="a task", cron="0 3 * * *", time_zone="Europe/Berlin")
_FILTER = "state = QUEUED AND tag : x"
RIGHT: dict[str, Any] = {
    "CreateTaskRequest": task_pb2.CreateTaskRequest(task=_TASK, request_id="1"),
    "UpdateTaskRequest": task_pb2.UpdateTaskRequest(task=task_pb2.Task(name="a task", spec=_SPEC)),
    "RunTaskRequest": task_pb2.RunTaskRequest(task="a task", options=_OPTIONS),
    "CreateRunRequest": run_pb2.CreateRunRequest(spec=_SPEC, options=_OPTIONS),
    "ListRunsRequest": run_pb2.ListRunsRequest(filter=_FILTER, page_size=2),
    "CancelRunsRequest": run_pb2.CancelRunsRequest(filter=_FILTER, dry_run=True),
    "CreateScheduleRequest": schedule_pb2.CreateScheduleRequest(schedule=_SCHEDULE),
    "UpdateScheduleRequest": schedule_pb2.UpdateScheduleRequest(
        schedule=schedule_pb2.Schedule(id="a schedule", name="a schedule", cron="@daily")
    ),
    "CreateProjectRequest": project_pb2.CreateProjectRequest(project=project_pb2.Project(name="new")),
    "CreatePrincipalRequest": access_pb2.CreatePrincipalRequest(
        principal=access_pb2.Principal(kind=access_pb2.PRINCIPAL_KIND_SERVICE, name="bot", project_ids=["default"])
    ),
    "UpdatePrincipalRequest": access_pb2.UpdatePrincipalRequest(principal=access_pb2.Principal(name="mal")),
    "CreateTokenRequest": access_pb2.CreateTokenRequest(principal="mal", lifetime=Duration(seconds=600)),
    "CreateJoinTokenRequest": runner_pb2.CreateJoinTokenRequest(pool="p", granted_labels={"a": "b"}),
    "SetSecretRequest": secret_pb2.SetSecretRequest(name="x", value=b"long enough"),
}


def requests(descriptor: Descriptor) -> st.SearchStrategy[Any]:
    """Anything of this type, or what is nearly right."""
    nearly = st.builds(_mixed, messages(descriptor), st.randoms(use_true_random=False))
    return st.one_of(messages(descriptor), nearly, nearly)


def _mixed(noise: Any, chance: random.Random) -> Any:
    right = RIGHT.get(noise.DESCRIPTOR.name)
    made = message_factory.GetMessageClass(noise.DESCRIPTOR)()
    if right is None:
        _named(made, chance)
    else:
        made.CopyFrom(right)
    _mix(made, noise, chance)
    return made


def _named(made: Any, chance: random.Random) -> None:
    """Of a request without an example: each of its names is that of something."""
    for field in made.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and field.name not in ("etag", "filter"):
            there = _THERE.get(field.name, f"a {field.name}")
            setattr(made, field.name, there if chance.random() < 0.7 else chance.choice(KNOWN))
    for name in ("page_token", "request_id", "project"):
        if name in made.DESCRIPTOR.fields_by_name:
            made.ClearField(name)


def _mix(made: Any, noise: Any, chance: random.Random) -> None:
    """Some fields of `made` become those of `noise`, at any depth."""
    for field, value in noise.ListFields():
        single = field.message_type is not None and not field.is_repeated
        if chance.random() < NOISE:
            made.ClearField(field.name)
            if field.is_repeated or single:
                getattr(made, field.name).MergeFrom(value)
            else:
                setattr(made, field.name, value)
        elif single and made.HasField(field.name):
            _mix(getattr(made, field.name), value, chance)
