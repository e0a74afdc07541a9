"""What a valid spec is: every offending field is named, each limit is checked here and nowhere else."""

from collections.abc import Iterator
from dataclasses import replace

from control_plane.domain import limits
from control_plane.domain.coding_agent import check_coding_agent
from control_plane.domain.concurrency import check_concurrency, with_limit_defaults
from control_plane.domain.errors import FieldViolation
from control_plane.domain.loss import lost_after_s
from control_plane.domain.names import (
    check_env_name,
    check_label_key,
    check_label_value,
    check_secret_name,
    check_text,
    violation,
)
from control_plane.domain.retry import RETRIED_REASONS
from control_plane.domain.spec import (
    RETRY_ON_FAILED,
    RETRY_ON_TIMEOUT,
    Command,
    EnvVar,
    LossPolicy,
    OnLost,
    RetryPolicy,
    RunSpec,
    Selector,
    SelectorOperator,
    Step,
    StepKind,
)
from control_plane.domain.workspace import check_artifacts, check_workspace, with_workspace_defaults

STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL")
_RETRY_ON = (RETRY_ON_FAILED, RETRY_ON_TIMEOUT, *(str(reason) for reason in RETRIED_REASONS))
_LEASES = 2


def validate_spec(spec: RunSpec, *, lease_s: float = 15.0, path: str = "spec") -> tuple[FieldViolation, ...]:
    """Everything that is wrong with a spec; empty when it may be stored. `lease_s`: the lease as it is told now."""
    return tuple(_spec(spec, lease_s, path))


def validate_size(encoded_bytes: int, spec: RunSpec, path: str = "spec") -> tuple[FieldViolation, ...]:
    """The stored form's size; scripts and stdin have limits of their own and are not counted."""
    apart = sum(len(step.command.script.encode()) + len(step.command.stdin) for step in spec.steps)
    if encoded_bytes - apart <= limits.SPEC_BYTES:
        return ()
    return (violation(path, f"must have at most {limits.SPEC_BYTES} bytes without scripts and stdin"),)


def with_defaults(spec: RunSpec) -> RunSpec:
    """The spec as a run freezes it: what was not said is written out, so that a later default changes no old run."""
    retry = spec.retry
    return replace(
        spec,
        steps=tuple(replace(step, command=_command_with_defaults(step.command)) for step in spec.steps),
        slots=spec.slots or 1,
        timeout_s=_timeout_or_default(spec),
        start_timeout_s=limits.DEFAULT_START_TIMEOUT_S if spec.start_timeout_s is None else spec.start_timeout_s,
        grace_s=spec.grace,
        stop_signal=spec.stop_signal or limits.DEFAULT_STOP_SIGNAL,
        log_limit_bytes=spec.log_limit_bytes or limits.DEFAULT_LOG_LIMIT_BYTES,
        loss=LossPolicy(
            on_lost=spec.loss.on_lost or OnLost.FAIL,
            lost_after_s=lost_after_s(spec),
            never=spec.loss.never,
        ),
        retry=RetryPolicy(
            max_attempts=retry.max_attempts or 1,
            backoff_s=limits.DEFAULT_BACKOFF_S if retry.backoff_s is None else retry.backoff_s,
            backoff_cap_s=limits.DEFAULT_BACKOFF_CAP_S if retry.backoff_cap_s is None else retry.backoff_cap_s,
            retry_on=retry.retry_on or (RETRY_ON_FAILED,),
        ),
        concurrency=tuple(with_limit_defaults(each) for each in spec.concurrency),
        workspace=with_workspace_defaults(spec.workspace),
    )


def _timeout_or_default(spec: RunSpec) -> float | None:
    """A command may take as long as it takes; an agent that hangs costs money."""
    if spec.timeout_s is None and spec.coding_agent is not None:
        return limits.DEFAULT_AGENT_TIMEOUT_S
    return spec.timeout_s


def _command_with_defaults(command: Command) -> Command:
    interpreter = command.interpreter or ("/bin/sh",)
    return replace(
        command,
        interpreter=interpreter if command.script else (),
        success_exit_codes=command.success_exit_codes or (0,),
    )


def _spec(spec: RunSpec, lease_s: float, path: str) -> Iterator[FieldViolation]:
    if spec.coding_agent is not None:
        yield from check_coding_agent(spec.coding_agent, f"{path}.coding_agent")
        if spec.steps:
            yield violation(f"{path}.steps", "must be empty with a coding agent")
    elif not 1 <= len(spec.steps) <= limits.STEPS:
        yield violation(f"{path}.steps", f"must be 1 to {limits.STEPS} steps, are {len(spec.steps)}")
    for index, step in enumerate(spec.steps[: limits.STEPS]):
        yield from _step(step, f"{path}.steps[{index}]")
        yield from _exec_size(spec, step, f"{path}.steps[{index}].command")
    yield from _together(spec, path)
    yield from _env(spec.env, f"{path}.env")
    if len(spec.selectors) > limits.SELECTORS:
        yield violation(f"{path}.selectors", f"at most {limits.SELECTORS}, are {len(spec.selectors)}")
    for index, selector in enumerate(spec.selectors[: limits.SELECTORS]):
        yield from _selector(selector, f"{path}.selectors[{index}]")
    yield from _within(spec.slots, 0, limits.SLOTS, f"{path}.slots")
    yield from check_priority(spec.priority, f"{path}.priority")
    yield from _times(spec, path)
    yield from check_signal(spec.stop_signal, f"{path}.stop_signal")
    if spec.log_limit_bytes:
        low, high = limits.LOG_LIMIT_SMALLEST_BYTES, limits.LOG_LIMIT_LARGEST_BYTES
        yield from _within(spec.log_limit_bytes, low, high, f"{path}.log_limit_bytes")
    yield from _retry(spec.retry, f"{path}.retry")
    yield from _loss(spec, lease_s, f"{path}.loss")
    yield from check_text(spec.runner, f"{path}.runner", limits.NAME_CHARACTERS * 4)
    yield from check_concurrency(spec.concurrency, f"{path}.concurrency")
    yield from check_artifacts(spec.artifacts, f"{path}.artifacts")
    yield from check_workspace(spec.workspace, f"{path}.workspace")


def check_priority(priority: int, field: str) -> Iterator[FieldViolation]:
    yield from _within(priority, limits.PRIORITY_LOWEST, limits.PRIORITY_HIGHEST, field)


def check_signal(name: str, field: str) -> Iterator[FieldViolation]:
    if name and name not in STOP_SIGNALS:
        yield violation(field, f"must be one of {', '.join(STOP_SIGNALS)}")


def check_grace(grace_s: float | None, field: str) -> Iterator[FieldViolation]:
    if grace_s is not None and not 0.0 <= grace_s <= limits.GRACE_LONGEST_S:
        yield violation(field, "must be 0 s to 1 h")


def _within(value: int, low: int, high: int, field: str) -> Iterator[FieldViolation]:
    if not low <= value <= high:
        yield violation(field, f"must be {low} to {high}, is {value}")


def _timeout(value_s: float | None, field: str) -> Iterator[FieldViolation]:
    if value_s is not None and not limits.TIMEOUT_SHORTEST_S <= value_s <= limits.TIMEOUT_LONGEST_S:
        yield violation(field, f"must be 1 s to 30 d, is {value_s:.12g} s")


def _times(spec: RunSpec, path: str) -> Iterator[FieldViolation]:
    yield from _timeout(spec.timeout_s, f"{path}.timeout")
    yield from _timeout(spec.idle_timeout_s, f"{path}.idle_timeout")
    yield from _timeout(spec.start_timeout_s, f"{path}.start_timeout")
    yield from _timeout(spec.queue_timeout_s, f"{path}.queue_timeout")
    yield from check_grace(spec.grace_s, f"{path}.grace")


def _step(step: Step, path: str) -> Iterator[FieldViolation]:
    if step.kind is not StepKind.MAIN:
        yield violation(f"{path}.kind", "only MAIN steps can be run yet")
    if len(step.name) > limits.NAME_CHARACTERS or not (step.name == "" or step.name.isprintable()):
        yield violation(f"{path}.name", f"must be at most {limits.NAME_CHARACTERS} printable characters")
    yield from _timeout(step.timeout_s, f"{path}.timeout")
    yield from _env(step.env, f"{path}.env")
    yield from _command(step.command, f"{path}.command")


def _command(command: Command, path: str) -> Iterator[FieldViolation]:
    if bool(command.argv) == bool(command.script):
        yield violation(path, "exactly one of argv and script must be given")
    if command.argv and not command.argv[0]:
        yield violation(f"{path}.argv[0]", "must not be empty")
    if command.interpreter and not command.script:
        yield violation(f"{path}.interpreter", "is only for a script")
    for name, elements in (("argv", command.argv), ("interpreter", command.interpreter)):
        for index, element in enumerate(elements):
            yield from _argument(element, f"{path}.{name}[{index}]")
    if "\0" in command.script:
        yield violation(f"{path}.script", "must not hold NUL")
    yield from check_text(command.working_directory, f"{path}.working_directory", limits.PATH_BYTES)
    codes = command.success_exit_codes
    if len(codes) > limits.SUCCESS_EXIT_CODES or any(not 0 <= code <= 255 for code in codes):
        yield violation(f"{path}.success_exit_codes", "must be 0 to 255 each")


def _argument(element: str, path: str) -> Iterator[FieldViolation]:
    size = len(element.encode())
    if "\0" in element:
        yield violation(path, "must not hold NUL")
    if size > limits.ARGV_ELEMENT_BYTES:
        yield violation(path, f"must have at most {limits.ARGV_ELEMENT_BYTES} bytes, has {size}")


def _exec_size(spec: RunSpec, step: Step, path: str) -> Iterator[FieldViolation]:
    """argv and env as the kernel counts them: each string with its NUL."""
    arguments = sum(len(element.encode()) + 1 for element in (*step.command.interpreter, *step.command.argv))
    variables = {variable.name: variable.value or "" for variable in (*spec.env, *step.env)}
    environment = sum(len(name.encode()) + len(value.encode()) + 2 for name, value in variables.items())
    if arguments + environment > limits.ARGV_AND_ENV_BYTES:
        yield violation(path, f"argv and env must have at most {limits.ARGV_AND_ENV_BYTES} bytes together")


def _together(spec: RunSpec, path: str) -> Iterator[FieldViolation]:
    """All scripts, and all stdin bytes, of a spec: they travel in one message."""
    if sum(len(step.command.script.encode()) for step in spec.steps) > limits.SCRIPT_BYTES:
        yield violation(_first(spec, path, "script"), f"scripts must have at most {limits.SCRIPT_BYTES} bytes")
    if sum(len(step.command.stdin) for step in spec.steps) > limits.STDIN_BYTES:
        yield violation(_first(spec, path, "stdin"), f"stdin must have at most {limits.STDIN_BYTES} bytes")


def _first(spec: RunSpec, path: str, name: str) -> str:
    """The step with most of it is the one to look at."""
    sizes = [len(step.command.script if name == "script" else step.command.stdin) for step in spec.steps]
    return f"{path}.steps[{sizes.index(max(sizes))}].command.{name}"


def _env(variables: tuple[EnvVar, ...], path: str) -> Iterator[FieldViolation]:
    if len(variables) > limits.ENV_VARS:
        yield violation(path, f"at most {limits.ENV_VARS} variables, are {len(variables)}")
    seen: set[str] = set()
    for index, variable in enumerate(variables[: limits.ENV_VARS + 1]):
        yield from check_env_name(variable.name, f"{path}[{index}].name")
        if variable.name in seen:
            yield violation(f"{path}[{index}].name", f"{variable.name} is given twice")
        seen.add(variable.name)
        if (variable.value is None) == (variable.secret_ref is None):
            yield violation(f"{path}[{index}]", "exactly one of value and secret_ref must be given")
        if variable.value is not None:
            yield from _argument(variable.value, f"{path}[{index}].value")
        if variable.secret_ref is not None:
            yield from check_secret_name(variable.secret_ref, f"{path}[{index}].secret_ref")


def _selector(selector: Selector, path: str) -> Iterator[FieldViolation]:
    yield from check_label_key(selector.key, f"{path}.key")
    wants_values = selector.operator is not SelectorOperator.EXISTS
    if wants_values and not 1 <= len(selector.values) <= limits.SELECTOR_VALUES:
        yield violation(f"{path}.values", f"must be 1 to {limits.SELECTOR_VALUES} values")
    if not wants_values and selector.values:
        yield violation(f"{path}.values", "must be empty with EXISTS")
    for index, value in enumerate(selector.values[: limits.SELECTOR_VALUES]):
        yield from check_label_value(value, f"{path}.values[{index}]")


def _retry(retry: RetryPolicy, path: str) -> Iterator[FieldViolation]:
    yield from _within(retry.max_attempts, 0, limits.MAX_ATTEMPTS, f"{path}.max_attempts")
    yield from _timeout(retry.backoff_s or None, f"{path}.backoff")
    yield from _timeout(retry.backoff_cap_s or None, f"{path}.backoff_cap")
    for index, end in enumerate(retry.retry_on):
        if end not in _RETRY_ON or end in retry.retry_on[:index]:
            yield violation(f"{path}.retry_on[{index}]", f"must be one of {', '.join(_RETRY_ON)}, each once")


def _loss(spec: RunSpec, lease_s: float, path: str) -> Iterator[FieldViolation]:
    loss = spec.loss
    if loss.never and loss.on_lost is OnLost.RETRY:
        yield violation(f"{path}.never", "cannot be combined with ON_LOST_RETRY")
    if loss.lost_after_s is None:
        return
    shortest_s = _LEASES * lease_s
    if not shortest_s <= loss.lost_after_s <= limits.TIMEOUT_LONGEST_S:
        yield violation(f"{path}.lost_after", f"must be {shortest_s:g} s (two leases) to 30 d")
