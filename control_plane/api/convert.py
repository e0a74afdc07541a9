"""What runs are made of, as messages: specs, options, runs, attempts, logs; and the codec that stores specs."""

from __future__ import annotations

from typing import Any, TypeVar

from banksman.v1 import limit_pb2, log_pb2, run_pb2, spec_pb2
from google.protobuf.message import DecodeError, Message

from control_plane.api.mapping import BadFields, Plan, duration, enum_turns, timestamp, within
from control_plane.api.remembering import Remembering
from control_plane.api.values import texts_of
from control_plane.domain.attempt import Attempt, EndProof, StepResult, StopRecord
from control_plane.domain.coding_agent import CodingAgent
from control_plane.domain.concurrency import ConcurrencyLimit
from control_plane.domain.errors import invalid_fields
from control_plane.domain.history import RunEventRecord
from control_plane.domain.log import LogGap, LogKind, LogRecord
from control_plane.domain.progress import Progress, ResourceUsage
from control_plane.domain.run import Link, Remedy, Run, RunOptions, RunOverrides, RunState
from control_plane.domain.spec import Command, EnvVar, LossPolicy, RetryPolicy, RunSpec, Selector, Step
from control_plane.domain.variable_rules import render_spec
from control_plane.domain.variables import VariableValue, environment
from control_plane.domain.workspace import ArtifactPattern, WorkspacePolicy

E = TypeVar("E")
M = TypeVar("M", bound=Message)

ENV_VAR = Plan(EnvVar, spec_pb2.EnvVar)
COMMAND = Plan(Command, spec_pb2.Command)
STEP = Plan(Step, spec_pb2.Step, nested={Command: COMMAND, EnvVar: ENV_VAR})
SELECTOR = Plan(Selector, spec_pb2.Selector)
RETRY = Plan(RetryPolicy, spec_pb2.RetryPolicy)
LOSS = Plan(LossPolicy, spec_pb2.LossPolicy)
CODING_AGENT = Plan(CodingAgent, spec_pb2.CodingAgent)
CONCURRENCY = Plan(ConcurrencyLimit, limit_pb2.ConcurrencyLimit)
ARTIFACT_PATTERN = Plan(ArtifactPattern, spec_pb2.ArtifactPattern)
WORKSPACE = Plan(WorkspacePolicy, spec_pb2.WorkspacePolicy)
_PARTS_OF_SPEC: dict[Any, Plan[Any, Any]] = {
    Step: STEP,
    EnvVar: ENV_VAR,
    Selector: SELECTOR,
    RetryPolicy: RETRY,
    LossPolicy: LOSS,
    CodingAgent: CODING_AGENT,
    ConcurrencyLimit: CONCURRENCY,
    ArtifactPattern: ARTIFACT_PATTERN,
    WorkspacePolicy: WORKSPACE,
}
SPEC = Remembering(RunSpec, spec_pb2.RunSpec, nested=_PARTS_OF_SPEC)
# For specs in which variables were replaced, perhaps secret ones: nothing of them stays in memory.
SPEC_FOR_ONE = Plan(RunSpec, spec_pb2.RunSpec, nested=_PARTS_OF_SPEC)
LINK = Plan(Link, run_pb2.Link)
OVERRIDES = Plan(
    RunOverrides,
    run_pb2.RunOverrides,
    nested={EnvVar: ENV_VAR, Selector: SELECTOR, RetryPolicy: RETRY, LossPolicy: LOSS},
)
OPTIONS = Plan(RunOptions, run_pb2.RunOptions, nested={Link: LINK, RunOverrides: OVERRIDES})
VARIABLE_VALUE = Plan(VariableValue, run_pb2.VariableValue)
STEP_RESULT = Plan(StepResult, run_pb2.StepResult)
LOG_GAP = Plan(LogGap, run_pb2.LogGap)
LOG_RECORD = Plan(LogRecord, log_pb2.LogRecord)
PROGRESS = Plan(Progress, run_pb2.Progress)
RESOURCE_USAGE = Plan(ResourceUsage, run_pb2.ResourceUsage)
STOP_RECORD = Plan(StopRecord, run_pb2.StopRecord, stored=True)
REMEDY = Plan(Remedy, run_pb2.Remedy)
_encode_end_proof, _ = enum_turns(EndProof, run_pb2.EndProof.DESCRIPTOR)


def _end_proof(attempt: Attempt) -> Any:
    return 0 if attempt.end_proof is None else _encode_end_proof(attempt.end_proof)


ATTEMPT = Plan(
    Attempt,
    run_pb2.Attempt,
    nested={
        StepResult: STEP_RESULT,
        StopRecord: STOP_RECORD,
        LogGap: LOG_GAP,
        Progress: PROGRESS,
        ResourceUsage: RESOURCE_USAGE,
    },
    stored=True,
    computed={"end_proof": _end_proof, "log_expired_at": lambda attempt: timestamp(attempt.log_deleted_at)},
)
RUN_EVENT = Plan(RunEventRecord, run_pb2.RunEvent)


def _run_duration(run: Run) -> Any:
    if run.started_at is None or run.completed_at is None:
        return None
    return duration((run.completed_at - run.started_at).total_seconds())


RUN = Plan(
    Run,
    run_pb2.Run,
    nested={
        RunOptions: OPTIONS,
        Attempt: ATTEMPT,
        Remedy: REMEDY,
        VariableValue: VARIABLE_VALUE,
        Progress: PROGRESS,
    },
    stored=True,
    absent=frozenset({"spec", "rendered_commands"}),
    computed={
        "is_active": lambda run: run.is_active,
        "retry_count": lambda run: run.retries_by_hand + run.retry_count,
        "duration": _run_duration,
        "links": lambda run: [LINK.encode(link) for link in run.options.links],
    },
)

_, decode_run_state = enum_turns(RunState, run_pb2.RunState.DESCRIPTOR)
_, decode_log_kind = enum_turns(LogKind, log_pb2.LogKind.DESCRIPTOR)


def run_message(run: Run, spec: RunSpec | None = None) -> run_pb2.Run:
    """A run as its readers see it; lists leave the spec out."""
    message = RUN.encode(run)
    if spec is not None:
        message.spec.CopyFrom(SPEC.encode(spec))
        if run.variables is not None:
            message.rendered_commands.extend(_rendered(run, spec))
    return message


def _rendered(run: Run, spec: RunSpec) -> list[run_pb2.RenderedCommand]:
    """What is executed; sensitive variables stay as they are written."""
    given = run.variables or ()
    values = {each.name: each.value for each in given if not each.sensitive}
    shown = environment({each.name: each.value if not each.sensitive else f"{{{{ {each.name} }}}}" for each in given})
    ours = tuple(EnvVar(name=name, value=value) for name, value in shown.items())
    whole = render_spec(spec, values)
    prompt = "" if whole.coding_agent is None else whole.coding_agent.prompt
    return [
        run_pb2.RenderedCommand(
            argv=step.command.argv,
            env=[ENV_VAR.encode(each) for each in (*ours, *whole.env, *step.env)],
            prompt=prompt,
        )
        for step in whole.steps
    ]


def decoded(plan: Plan[E, M], message: M, field: str = "") -> E:
    """The entity in a request's field. Raises InvalidArgument naming every field that has no meaning."""
    try:
        return plan.decode(message)
    except BadFields as error:
        violations = [within(field, violation) if field else violation for violation in error.violations]
        raise invalid_fields(*violations) from error


def variables_of(request: run_pb2.RetryRunRequest) -> dict[str, str]:
    """Raises InvalidArgument naming every variable whose value is none."""
    try:
        return texts_of(request.variables)
    except BadFields as error:
        raise invalid_fields(*(within("variables", violation) for violation in error.violations)) from error


class ProtoSpecCodec:
    """Specs as proto bytes: equal specs give equal bytes, whatever order the fields were set in."""

    def encode(self, spec: RunSpec) -> bytes:
        """The bytes that are stored, and hashed for the spec's identity."""
        return SPEC.encode(spec).SerializeToString(deterministic=True)

    def decode(self, data: bytes) -> RunSpec:
        """The spec in stored bytes. Raises ValueError when they are not a spec."""
        try:
            return SPEC.decode(spec_pb2.RunSpec.FromString(data))
        except (DecodeError, BadFields) as error:
            raise ValueError("stored bytes are not a run spec") from error
