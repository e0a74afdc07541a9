"""An Assignment of the wire as a value, with the contract's defaults filled in."""

from __future__ import annotations

from collections.abc import Iterable

from banksman.v1 import session_pb2 as wire
from banksman.v1 import spec_pb2 as spec

from runner_agent.domain.assignment import (
    DEFAULT_GRACE_S,
    DEFAULT_LOG_LIMIT_BYTES,
    DEFAULT_START_TIMEOUT_S,
    DEFAULT_STOP_SIGNAL,
    ArtifactPattern,
    Assignment,
    Command,
    EnvVar,
    Step,
    StepKind,
    WorkspaceRemoval,
)
from runner_agent.domain.ids import AttemptKey, RunId
from runner_agent.session.convert_values import enum_from, seconds


def key_from(message: wire.AttemptKey) -> AttemptKey:
    """The attempt's key."""
    return AttemptKey(run_id=RunId(message.run_id), lease_epoch=message.lease_epoch)


def assignment_from(message: wire.Assignment) -> Assignment:
    """Everything that is needed to run the attempt."""
    given = message.spec
    return Assignment(
        key=key_from(message.key),
        steps=tuple(_step(step) for step in given.steps),
        env=_env(given.env),
        slots=given.slots or 1,
        timeout_s=seconds(given.timeout) if given.HasField("timeout") else None,
        idle_timeout_s=seconds(given.idle_timeout) if given.HasField("idle_timeout") else None,
        start_timeout_s=seconds(given.start_timeout) if given.HasField("start_timeout") else DEFAULT_START_TIMEOUT_S,
        grace_s=seconds(given.grace) if given.HasField("grace") else DEFAULT_GRACE_S,
        stop_signal=given.stop_signal or DEFAULT_STOP_SIGNAL,
        log_limit_bytes=given.log_limit_bytes or DEFAULT_LOG_LIMIT_BYTES,
        merge_output=given.merge_output,
        fail_on_invalid_result=given.fail_on_invalid_result,
        secrets=dict(message.secrets),
        server_env=dict(message.env),
        lost_after_s=seconds(message.lost_after) if message.HasField("lost_after") else None,
        project_name=message.project_name,
        task_name=message.task_name,
        attempt_number=message.attempt_number or 1,
        artifacts=patterns_from(given.artifacts),
        workspace_removal=_removal(given.workspace.removal),
        workspace_keep_s=seconds(given.workspace.keep),
    )


def patterns_from(messages: Iterable[spec.ArtifactPattern]) -> tuple[ArtifactPattern, ...]:
    """The files that are wanted of a workspace."""
    return tuple(ArtifactPattern(path=item.path, required=item.required) for item in messages)


def _removal(number: int) -> WorkspaceRemoval:
    always = WorkspaceRemoval.ALWAYS
    return enum_from(number, spec.WorkspaceRemoval, "WORKSPACE_REMOVAL_", WorkspaceRemoval, always)


def _step(message: spec.Step) -> Step:
    command = message.command
    return Step(
        kind=enum_from(message.kind, spec.StepKind, "STEP_KIND_", StepKind, StepKind.UNSPECIFIED),
        name=message.name,
        command=Command(
            argv=tuple(command.argv),
            script=command.script,
            interpreter=tuple(command.interpreter),
            working_directory=command.working_directory,
            stdin=command.stdin,
            success_exit_codes=tuple(command.success_exit_codes),
        ),
        env=_env(message.env),
        timeout_s=seconds(message.timeout) if message.HasField("timeout") else None,
        always=message.always,
    )


def _env(messages: Iterable[spec.EnvVar]) -> tuple[EnvVar, ...]:
    return tuple(
        EnvVar(name=item.name, secret_ref=item.secret_ref)
        if item.WhichOneof("source") == "secret_ref"
        else EnvVar(name=item.name, value=item.value)
        for item in messages
    )
