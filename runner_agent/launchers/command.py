"""The `command` launcher: argv, or a script that reaches its interpreter as a file. No shell line is ever composed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner_agent.domain.assignment import Assignment, EnvVar, Step, StepKind
from runner_agent.shim import messages as shim

DEFAULT_INTERPRETER = ("/bin/sh",)


class SecretMissing(ValueError):
    """The spec names a secret whose value did not come with the Assignment."""


class Unlaunchable(ValueError):
    """The spec cannot be started on any runner of this version; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where the attempt will run, and what the host gives it."""

    work: Path
    scripts: Path
    runner_name: str
    cookie: str
    base_env: Mapping[str, str]

    @property
    def result(self) -> Path:
        """The file that the run may write its result into."""
        return self.work.parent / "result.json"


def script_name(index: int) -> str:
    """The file that holds the script of step `index`."""
    return f"step-{index}"


def scripts(assignment: Assignment) -> dict[str, str]:
    """The script files that the steps need."""
    return {
        script_name(index): step.command.script for index, step in enumerate(assignment.steps) if step.command.script
    }


def attempt_start(
    assignment: Assignment,
    surroundings: Surroundings,
    *,
    loss_deadline_boottime_ns: int | None,
    start_timeout_s: float,
) -> shim.AttemptStart:
    """Everything that the shim needs. Secret values become masks. Raises SecretMissing, Unlaunchable."""
    return shim.AttemptStart(
        run_id=assignment.key.run_id,
        epoch=assignment.key.lease_epoch,
        steps=tuple(_step(assignment, surroundings, index, step) for index, step in enumerate(assignment.steps)),
        cookie=surroundings.cookie,
        merge_output=assignment.merge_output,
        run_timeout_s=assignment.timeout_s,
        idle_timeout_s=assignment.idle_timeout_s,
        start_timeout_s=start_timeout_s,
        stop_signal=signal_number(assignment.stop_signal),
        grace_s=assignment.grace_s,
        loss_deadline_boottime_ns=loss_deadline_boottime_ns,
        log_limit_bytes=assignment.log_limit_bytes,
        masks=tuple(value for value in assignment.secrets.values() if value),
        result_path=str(surroundings.result),
        fail_on_invalid_result=assignment.fail_on_invalid_result,
    )


def check(assignment: Assignment) -> None:
    """What can be known before anything is made. Raises SecretMissing, Unlaunchable."""
    if not assignment.steps:
        raise Unlaunchable("the spec has no step")
    for step in assignment.steps:
        if bool(step.command.argv) == bool(step.command.script):
            raise Unlaunchable("a step has not exactly one of argv and script")
        if step.kind is StepKind.UNSPECIFIED:
            raise Unlaunchable("a step is of a kind that this agent does not know")
        _variables(assignment, (*assignment.env, *step.env))
    signal_number(assignment.stop_signal)


def signal_number(name: str) -> int:
    """The number of a signal's name. Raises Unlaunchable."""
    try:
        return int(signal.Signals[name])
    except KeyError:
        raise Unlaunchable(f"{name!r} is not a signal of this host") from None


def _step(assignment: Assignment, surroundings: Surroundings, index: int, step: Step) -> shim.StepStart:
    command = step.command
    argv = command.argv
    if command.script:
        argv = (*(command.interpreter or DEFAULT_INTERPRETER), str(surroundings.scripts / script_name(index)))
    env = {
        **surroundings.base_env,
        **assignment.server_env,
        **_variables(assignment, (*assignment.env, *step.env)),
        **_our_variables(assignment, surroundings),
    }
    return shim.StepStart(
        argv=argv,
        env=env,
        cwd=str(surroundings.work / command.working_directory),
        stdin=command.stdin or None,
        timeout_s=step.timeout_s,
        kind=shim.StepKind(step.kind.value),
        always=step.always,
        success_exit_codes=frozenset(command.success_exit_codes or (0,)),
    )


def _variables(assignment: Assignment, variables: Iterable[EnvVar]) -> dict[str, str]:
    env: dict[str, str] = {}
    for variable in variables:
        if variable.secret_ref is None:
            env[variable.name] = variable.value
        elif variable.secret_ref in assignment.secrets:
            env[variable.name] = os.fsdecode(assignment.secrets[variable.secret_ref])
        else:
            raise SecretMissing(f"the secret {variable.secret_ref!r} for {variable.name} has no value")
    return env


def _our_variables(assignment: Assignment, surroundings: Surroundings) -> dict[str, str]:
    """BANKSMAN_*; the shim adds BANKSMAN_SOCKET and BANKSMAN_COOKIE."""
    return {
        "BANKSMAN_RUN_ID": assignment.key.run_id,
        "BANKSMAN_ATTEMPT": str(assignment.attempt_number),
        "BANKSMAN_LEASE_EPOCH": str(assignment.key.lease_epoch),
        "BANKSMAN_TASK": assignment.task_name,
        "BANKSMAN_PROJECT": assignment.project_name,
        "BANKSMAN_RUNNER": surroundings.runner_name,
        "BANKSMAN_WORKSPACE": str(surroundings.work),
        "BANKSMAN_RESULT": str(surroundings.result),
    }
