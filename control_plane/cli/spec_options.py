"""The options that describe what to run, and the spec that they make."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from control_plane.cli import contract
from control_plane.cli.commands import Seconds, SignalName, key_values
from control_plane.cli.completing import complete_runners
from control_plane.cli.errors import CliError
from control_plane.cli.given import piped_stdin, read_script
from control_plane.cli.invocation import Invocation
from control_plane.cli.limit_options import SPEC_LIMITS, set_limits
from control_plane.cli.workspace_options import SPEC_WORKSPACE, set_workspace

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecOptions:
    """What the command line said; None and () where it was silent."""

    cmd: tuple[str, ...]
    script: str | None
    interpreter: str | None
    cwd: str | None
    env: tuple[str, ...]
    secret: tuple[str, ...]
    label: tuple[str, ...]
    runner: str | None
    slots: int | None
    timeout: float | None
    idle_timeout: float | None
    queue_timeout: float | None
    start_timeout: float | None
    grace: float | None
    stop_signal: str | None
    stdin: bool | None
    merge_output: bool | None
    fail_on_invalid_result: bool | None
    success_exit_code: tuple[int, ...]
    retry: int | None
    retry_backoff: float | None
    retry_on: tuple[str, ...]
    on_lost: str | None
    lost_after: str | None
    priority: int | None
    log_limit: int | None
    max_concurrent: int | None
    concurrency_key: str | None
    limit_scope: str | None
    on_limit: str | None
    profile: str | None
    artifact: tuple[str, ...]
    require_artifact: tuple[str, ...]
    keep_workspace: str | None
    keep_workspace_for: float | None


OPTIONS = [
    click.argument("cmd", nargs=-1, type=click.UNPROCESSED, metavar="[--] [CMD]..."),
    click.option("--script", metavar="FILE", help="Run this script instead of CMD; - reads it from standard input."),
    click.option("--interpreter", metavar="CMD", help='Takes the script (default: /bin/sh), e.g. "python3 -u".'),
    click.option("--cwd", metavar="DIR", help="Working directory; relative to the run's workspace."),
    click.option("-e", "--env", multiple=True, metavar="K[=V]", help="Environment variable; K alone copies your own."),
    click.option("--secret", multiple=True, metavar="NAME[=VAR]", help="A secret as variable VAR (default: NAME)."),
    click.option("--label", multiple=True, metavar="K=V", help="Run only where the runner has this label."),
    click.option("--runner", metavar="NAME", help="Run only on this runner.", shell_complete=complete_runners),
    click.option("--slots", type=int, metavar="N", help="Slots that it takes on its runner."),
    click.option("--timeout", type=Seconds(), help="Stop it after this time, e.g. 90s, 5m, 1h30m."),
    click.option("--idle-timeout", type=Seconds(), help="Stop it after so long a silence."),
    click.option("--queue-timeout", type=Seconds(), help="Give up when it waited for so long."),
    click.option("--start-timeout", type=Seconds(), help="Longest time from the assignment to its start."),
    click.option("--grace", type=Seconds(), help="From the stop signal to the kill (default: 10s)."),
    click.option("--stop-signal", type=SignalName(), help="First signal of a stop (default: SIGTERM)."),
    click.option("--stdin/--no-stdin", default=None, help="Send standard input, up to 1 MiB (default: if piped)."),
    click.option(
        "--fail-on-invalid-result/--allow-invalid-result",
        default=None,
        help="Fail if what it leaves in $BANKSMAN_RESULT is not JSON.",
    ),
    click.option("--merge-output/--split-output", default=None, help="One pipe for both outputs: exact order."),
    click.option("--success-exit-code", type=int, multiple=True, metavar="N", help="Exit code that counts as success."),
    click.option("--retry", type=int, metavar="N", help="Try again up to N times when it fails."),
    click.option("--retry-backoff", type=Seconds(), help="Delay before the first retry; it doubles (default: 5s)."),
    click.option(
        "--retry-on",
        multiple=True,
        metavar="END",
        help="failed (default), timeout, or a reason such as OOM_KILLED; repeatable.",
    ),
    click.option("--on-lost", type=click.Choice(["fail", "retry"]), help="If its runner falls silent (default: fail)."),
    click.option("--lost-after", metavar="DURATION", help='How long the runner may be silent, or "never".'),
    click.option("--priority", type=int, metavar="N", help="-100 to 100; higher runs first."),
    click.option("--log-limit", type=int, metavar="BYTES", help="Log bytes that are kept (default: 1 GiB)."),
    *SPEC_LIMITS,
    *SPEC_WORKSPACE,
]


def spec_options(function: F) -> F:
    """Add the options; the function gets them as one `given: SpecOptions`."""
    names = [field.name for field in fields(SpecOptions)]

    @functools.wraps(function)
    def collect(*args: Any, **kwargs: Any) -> Any:
        given = SpecOptions(**{name: kwargs.pop(name) for name in names})
        return function(*args, given=given, **kwargs)

    for option in reversed(OPTIONS):
        collect = option(collect)
    return collect  # type: ignore[return-value]


def build_spec(
    inv: Invocation, given: SpecOptions, base: contract.spec_pb2.RunSpec | None = None, *, send_stdin: bool = False
) -> contract.spec_pb2.RunSpec:
    """The spec that the options describe; on a base only what was given is changed.

    Piped standard input goes into it with send_stdin, else only when --stdin asks for it.

    Raises CliError when there is nothing to run, or too much of it.
    """
    spec = contract.spec_pb2.RunSpec()
    if base is not None:
        spec.CopyFrom(base)
    set_command(inv, given, spec, given.stdin if send_stdin else given.stdin or False)
    set_env(inv, given, spec)
    if given.label:
        del spec.selectors[:]
        for key, value in key_values(given.label, "--label").items():
            spec.selectors.add(key=key, operator=contract.spec_pb2.SELECTOR_OPERATOR_IN, values=[value])
    for name in ("timeout", "idle_timeout", "queue_timeout", "start_timeout", "grace"):
        seconds = getattr(given, name)
        if seconds is not None:
            set_duration(getattr(spec, name), seconds)
    for name in ("runner", "slots", "priority", "stop_signal", "merge_output", "fail_on_invalid_result"):
        value = getattr(given, name)
        if value is not None:
            assign(spec, name, value)
    if given.log_limit is not None:
        assign(spec, "log_limit_bytes", given.log_limit)
    set_policies(given, spec)
    set_limits(given, spec)
    set_workspace(given, spec)
    return spec


def assign(message: Any, field: str, value: object) -> None:
    """Set a field. Raises CliError when it cannot hold the value, such as text that is not UTF-8."""
    try:
        setattr(message, field, value)
    except (ValueError, TypeError) as error:
        raise CliError(f"{field.replace('_', '-')}: {value!r} cannot be sent", cause=str(error)) from error


def set_duration(duration: Any, seconds: float) -> None:
    """Also marks a duration of 0 as given."""
    duration.SetInParent()
    duration.FromNanoseconds(round(seconds * 1e9))


def set_command(inv: Invocation, given: SpecOptions, spec: contract.spec_pb2.RunSpec, stdin: bool | None) -> None:
    if given.cmd and given.script is not None:
        raise CliError("give either a command or --script, not both")
    if given.interpreter is not None and given.script is None and not is_script(spec):
        raise CliError("--interpreter goes with --script")
    command = single_command(spec, given)
    if command is None:
        return
    if given.cmd:
        command.ClearField("script")
        command.ClearField("interpreter")
        try:
            command.argv[:] = given.cmd
        except (ValueError, TypeError) as error:
            raise CliError("an argument of the command is not UTF-8 text", cause=str(error)) from error
    if given.script is not None:
        command.ClearField("argv")
        command.script = read_script(given.script)
    if given.interpreter is not None:
        try:
            command.interpreter[:] = shlex.split(given.interpreter)
        except ValueError as error:
            raise CliError(f"--interpreter {given.interpreter!r} cannot be split", cause=str(error)) from error
    if given.cwd is not None:
        assign(command, "working_directory", given.cwd)
    if given.success_exit_code:
        command.success_exit_codes[:] = given.success_exit_code
    if given.script != "-" and (given.stdin is not None or given.cmd or given.script is not None):
        command.stdin = piped_stdin(inv, stdin)


def is_script(spec: contract.spec_pb2.RunSpec) -> bool:
    return any(step.command.script for step in spec.steps)


def single_command(spec: contract.spec_pb2.RunSpec, given: SpecOptions) -> Any:
    """The command that the options speak of: the only step's, made when there is none. None when they are silent."""
    speaks = (given.cmd, given.script, given.interpreter, given.cwd, given.success_exit_code, given.stdin)
    if not any(value not in (None, ()) for value in speaks):
        return None
    if not spec.steps:
        if not given.cmd and given.script is None:
            raise CliError("there is no command to run", next_command="banksman run exec -- CMD...")
        spec.steps.add(kind=contract.spec_pb2.STEP_KIND_MAIN)
    if len(spec.steps) > 1:
        raise CliError("the spec has several steps; change its commands in a file (-f)")
    return spec.steps[0].command


def set_env(inv: Invocation, given: SpecOptions, spec: contract.spec_pb2.RunSpec) -> None:
    """Add or replace variables by name."""
    variables = contract.spec_pb2.EnvVar
    fresh: dict[str, contract.spec_pb2.EnvVar] = {}
    for pair in given.env:
        name, equals, value = pair.partition("=")
        if not equals and name not in inv.environ:
            raise CliError(f"-e {name}: your environment has no such variable; write -e {name}=VALUE")
        fresh[name] = variables()
        assign(fresh[name], "name", name)
        assign(fresh[name], "value", value if equals else inv.environ[name])
    for pair in given.secret:
        secret, equals, name = pair.partition("=")
        name = name if equals else secret
        fresh[name] = variables(name=name, secret_ref=secret)
    kept = [variable for variable in spec.env if variable.name not in fresh]
    kept_copies = [variables.FromString(variable.SerializeToString()) for variable in kept]
    del spec.env[:]
    spec.env.extend([*kept_copies, *fresh.values()])


def set_policies(given: SpecOptions, spec: contract.spec_pb2.RunSpec) -> None:
    if given.retry is not None:
        if given.retry < 0:
            raise CliError("--retry must not be negative")
        assign(spec.retry, "max_attempts", given.retry + 1)
    if given.retry_backoff is not None:
        set_duration(spec.retry.backoff, given.retry_backoff)
    if given.retry_on:
        spec.retry.retry_on[:] = given.retry_on
    if given.on_lost is not None:
        spec.loss.on_lost = contract.spec_pb2.OnLost.Value(f"ON_LOST_{given.on_lost.upper()}")
    if given.lost_after is not None:
        if given.lost_after == "never":
            spec.loss.never = True
        else:
            set_duration(spec.loss.lost_after, Seconds().convert(given.lost_after, None, None))
