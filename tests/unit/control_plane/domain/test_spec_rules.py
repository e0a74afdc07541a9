"""Every limit at its value and one beyond, and every offending field by its path."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain import limits
from control_plane.domain.run import Link, RunOptions
from control_plane.domain.run_rules import validate_cancel, validate_options
from control_plane.domain.spec import (
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
from control_plane.domain.spec_rules import validate_size, validate_spec, with_defaults
from control_plane.domain.stops import CancelOrder
from tests.fakes.cases import NOW

MIB = 1 << 20
DAY_S = 86_400.0


def of(command: Command | None = None, **changes: object) -> RunSpec:
    step = Step(command=Command(argv=("true",)) if command is None else command)
    return replace(RunSpec(steps=(step,)), **changes)  # type: ignore[arg-type]


def step(**changes: object) -> RunSpec:
    return RunSpec(steps=(replace(Step(command=Command(argv=("true",))), **changes),))  # type: ignore[arg-type]


def env(*variables: EnvVar) -> RunSpec:
    return of(env=variables)


def var(name: str = "A", **value: str) -> EnvVar:
    return EnvVar(name=name, **(value or {"value": "1"}))


def selector(key: str = "os", *values: str, operator: SelectorOperator = SelectorOperator.IN) -> RunSpec:
    return of(selectors=(Selector(key=key, operator=operator, values=values),))


def fields(spec: RunSpec) -> list[str]:
    return [violation.field for violation in validate_spec(spec)]


GOOD = [
    of(),
    of(Command(script="echo hi")),
    of(Command(script="print()", interpreter=("/usr/bin/python3", "-I"))),
    of(Command(argv=("x" * limits.ARGV_ELEMENT_BYTES,))),
    of(Command(argv=tuple("y" * (limits.ARGV_ELEMENT_BYTES - 7) for _ in range(8)))),
    of(Command(script="x" * MIB)),
    of(Command(argv=("cat",), stdin=b"\0" * MIB)),
    of(Command(argv=("true",), success_exit_codes=(0, 255))),
    of(Command(argv=("ünïcödé", ""))),
    RunSpec(steps=(Step(command=Command(argv=("true",))),) * limits.STEPS),
    of(env=tuple(var(f"V{number}") for number in range(limits.ENV_VARS))),
    env(var("_a9", value="")),
    env(var("A" * 128)),
    env(var("T", secret_ref="TOKEN")),
    selector("os", "linux"),
    selector("a" * 63, "b" * 63),
    selector("example.com/gpu", operator=SelectorOperator.EXISTS),
    of(slots=limits.SLOTS),
    of(priority=-100),
    of(priority=100),
    of(timeout_s=1.0, idle_timeout_s=1.0, start_timeout_s=1.0, queue_timeout_s=1.0),
    of(timeout_s=30 * DAY_S, idle_timeout_s=30 * DAY_S, start_timeout_s=30 * DAY_S, queue_timeout_s=30 * DAY_S),
    of(grace_s=0.0),
    of(grace_s=3_600.0),
    of(stop_signal="SIGKILL"),
    of(log_limit_bytes=limits.LOG_LIMIT_SMALLEST_BYTES),
    of(log_limit_bytes=limits.LOG_LIMIT_LARGEST_BYTES),
    of(retry=RetryPolicy(max_attempts=100, backoff_s=0.0, backoff_cap_s=30 * DAY_S, retry_on=("failed", "timeout"))),
    of(loss=LossPolicy(lost_after_s=30.0)),
    of(loss=LossPolicy(lost_after_s=30 * DAY_S, on_lost=OnLost.RETRY)),
    of(loss=LossPolicy(never=True)),
    step(timeout_s=1.0, name="build", always=True),
]
BAD = [
    (RunSpec(steps=()), ["spec.steps"]),
    (RunSpec(steps=(Step(command=Command(argv=("true",))),) * (limits.STEPS + 1)), ["spec.steps"]),
    (of(Command()), ["spec.steps[0].command"]),
    (of(Command(argv=("a",), script="b")), ["spec.steps[0].command"]),
    (of(Command(argv=("",))), ["spec.steps[0].command.argv[0]"]),
    (of(Command(argv=("a", "b\0c"))), ["spec.steps[0].command.argv[1]"]),
    (of(Command(argv=("x" * (limits.ARGV_ELEMENT_BYTES + 1),))), ["spec.steps[0].command.argv[0]"]),
    (of(Command(argv=("ü" * 65_536,))), ["spec.steps[0].command.argv[0]"]),
    (of(Command(argv=tuple("y" * (limits.ARGV_ELEMENT_BYTES - 6) for _ in range(9)))), ["spec.steps[0].command"]),
    (of(Command(argv=("a",), interpreter=("sh",))), ["spec.steps[0].command.interpreter"]),
    (of(Command(script="a", interpreter=("s\0h",))), ["spec.steps[0].command.interpreter[0]"]),
    (of(Command(script="a\0b")), ["spec.steps[0].command.script"]),
    (of(Command(script="x" * (MIB + 1))), ["spec.steps[0].command.script"]),
    (of(Command(argv=("cat",), stdin=b"x" * (MIB + 1))), ["spec.steps[0].command.stdin"]),
    (of(Command(argv=("a",), working_directory="/a\0b")), ["spec.steps[0].command.working_directory"]),
    (of(Command(argv=("a",), working_directory="x" * 4_097)), ["spec.steps[0].command.working_directory"]),
    (of(Command(argv=("a",), success_exit_codes=(256,))), ["spec.steps[0].command.success_exit_codes"]),
    (of(Command(argv=("a",), success_exit_codes=(-1,))), ["spec.steps[0].command.success_exit_codes"]),
    (step(kind=StepKind.CHECKOUT), ["spec.steps[0].kind"]),
    (step(name="a\nb"), ["spec.steps[0].name"]),
    (step(timeout_s=0.9), ["spec.steps[0].timeout"]),
    (step(env=(var("9"),)), ["spec.steps[0].env[0].name"]),
    (of(env=tuple(var(f"V{number}") for number in range(limits.ENV_VARS + 1))), ["spec.env"]),
    (env(var("A B")), ["spec.env[0].name"]),
    (env(var("")), ["spec.env[0].name"]),
    (env(var("A" * 129)), ["spec.env[0].name"]),
    (env(var("BANKSMAN_SOCKET")), ["spec.env[0].name"]),
    (env(var("A"), var("A")), ["spec.env[1].name"]),
    (env(EnvVar(name="A")), ["spec.env[0]"]),
    (env(EnvVar(name="A", value="x", secret_ref="Y")), ["spec.env[0]"]),
    (env(var("A", value="x\0")), ["spec.env[0].value"]),
    (env(var("A", secret_ref="no/name")), ["spec.env[0].secret_ref"]),
    (selector("-os", "linux"), ["spec.selectors[0].key"]),
    (selector("", "linux"), ["spec.selectors[0].key"]),
    (selector("a" * 64, "linux"), ["spec.selectors[0].key"]),
    (selector("os", "b" * 64), ["spec.selectors[0].values[0]"]),
    (selector("os", "li nux"), ["spec.selectors[0].values[0]"]),
    (selector("os"), ["spec.selectors[0].values"]),
    (selector("os", "linux", operator=SelectorOperator.EXISTS), ["spec.selectors[0].values"]),
    (of(slots=limits.SLOTS + 1), ["spec.slots"]),
    (of(slots=-1), ["spec.slots"]),
    (of(priority=-101), ["spec.priority"]),
    (of(priority=101), ["spec.priority"]),
    (of(timeout_s=0.999), ["spec.timeout"]),
    (of(timeout_s=-1.0), ["spec.timeout"]),
    (of(timeout_s=0.0), ["spec.timeout"]),
    (of(timeout_s=float("nan")), ["spec.timeout"]),
    (of(idle_timeout_s=30 * DAY_S + 1), ["spec.idle_timeout"]),
    (of(start_timeout_s=0.0), ["spec.start_timeout"]),
    (of(queue_timeout_s=30 * DAY_S + 1), ["spec.queue_timeout"]),
    (of(grace_s=-0.1), ["spec.grace"]),
    (of(grace_s=3_600.1), ["spec.grace"]),
    (of(stop_signal="TERM"), ["spec.stop_signal"]),
    (of(log_limit_bytes=limits.LOG_LIMIT_SMALLEST_BYTES - 1), ["spec.log_limit_bytes"]),
    (of(log_limit_bytes=limits.LOG_LIMIT_LARGEST_BYTES + 1), ["spec.log_limit_bytes"]),
    (of(log_limit_bytes=-1), ["spec.log_limit_bytes"]),
    (of(retry=RetryPolicy(max_attempts=101)), ["spec.retry.max_attempts"]),
    (of(retry=RetryPolicy(max_attempts=-1)), ["spec.retry.max_attempts"]),
    (of(retry=RetryPolicy(backoff_s=0.5)), ["spec.retry.backoff"]),
    (of(retry=RetryPolicy(backoff_cap_s=-1.0)), ["spec.retry.backoff_cap"]),
    (of(retry=RetryPolicy(retry_on=("lost",))), ["spec.retry.retry_on[0]"]),
    (of(retry=RetryPolicy(retry_on=("failed", "failed"))), ["spec.retry.retry_on[1]"]),
    (of(loss=LossPolicy(lost_after_s=29.9)), ["spec.loss.lost_after"]),
    (of(loss=LossPolicy(lost_after_s=30 * DAY_S + 1)), ["spec.loss.lost_after"]),
    (of(loss=LossPolicy(never=True, on_lost=OnLost.RETRY)), ["spec.loss.never"]),
    (of(runner="r\0"), ["spec.runner"]),
]


@pytest.mark.parametrize("spec", GOOD, ids=range(len(GOOD)))
def test_at_the_limit_it_is_good(spec: RunSpec) -> None:
    assert validate_spec(spec) == ()


@pytest.mark.parametrize(("spec", "offending"), BAD, ids=range(len(BAD)))
def test_beyond_the_limit_the_field_is_named(spec: RunSpec, offending: list[str]) -> None:
    assert fields(spec) == offending
    assert all(violation.description for violation in validate_spec(spec))


def test_all_offending_fields_are_named_at_once_under_the_callers_path() -> None:
    bad = replace(of(Command()), slots=-1, priority=999, env=(var("9"),))
    named = [violation.field for violation in validate_spec(bad, path="task.spec")]
    assert named == ["task.spec.steps[0].command", "task.spec.env[0].name", "task.spec.slots", "task.spec.priority"]


def test_scripts_of_all_steps_count_together() -> None:
    half = Step(command=Command(script="x" * (MIB // 2)))
    more = Step(command=Command(script="x" * (MIB // 2 + 1)))
    assert fields(RunSpec(steps=(half, half))) == []
    assert fields(RunSpec(steps=(half, more))) == ["spec.steps[1].command.script"]


def test_a_loss_deadline_is_two_leases_at_least_whatever_the_lease_is() -> None:
    short = of(loss=LossPolicy(lost_after_s=2.0))
    assert validate_spec(short, lease_s=1.0) == ()
    assert [violation.field for violation in validate_spec(short, lease_s=1.1)] == ["spec.loss.lost_after"]


def test_the_size_is_counted_without_scripts_and_stdin() -> None:
    spec = of(Command(script="x" * 1_000, stdin=b"y" * 500))
    assert validate_size(limits.SPEC_BYTES + 1_500, spec) == ()
    assert [violation.field for violation in validate_size(limits.SPEC_BYTES + 1_501, spec)] == ["spec"]


def test_defaults_are_written_out_and_stay_as_they_are() -> None:
    spec = with_defaults(of(Command(script="true")))
    assert spec.steps[0].command.interpreter == ("/bin/sh",)
    assert spec.steps[0].command.success_exit_codes == (0,)
    assert (spec.slots, spec.grace_s, spec.stop_signal, spec.start_timeout_s) == (1, 10.0, "SIGTERM", 600.0)
    assert (spec.retry.max_attempts, spec.retry.backoff_s, spec.retry.retry_on) == (1, 5.0, ("failed",))
    assert (spec.loss.on_lost, spec.loss.lost_after_s) == (OnLost.FAIL, DAY_S)
    assert (spec.timeout_s, spec.idle_timeout_s, spec.queue_timeout_s) == (None, None, None)
    assert with_defaults(spec) == spec
    assert validate_spec(spec) == ()
    retried = with_defaults(of(loss=LossPolicy(on_lost=OnLost.RETRY)))
    assert retried.loss.lost_after_s == 600.0
    assert with_defaults(of(loss=LossPolicy(never=True))).loss.lost_after_s is None
    assert with_defaults(of(grace_s=0.0)).grace_s == 0.0


BAD_OPTIONS = [
    (RunOptions(title="x" * 256), ["options.title"]),
    (RunOptions(title="a\nb"), ["options.title"]),
    (RunOptions(trigger_metadata={"a": "x" * 8_192}), ["options.trigger_metadata"]),
    (RunOptions(priority=101), ["options.priority"]),
    (RunOptions(labels={"-": "x"}), ["options.labels"]),
    (RunOptions(labels={f"k{number}": "" for number in range(33)}), ["options.labels"]),
    (RunOptions(deadline=NOW), ["options.deadline"]),
    (RunOptions(deadline=NOW + timedelta(days=3_651)), ["options.deadline"]),
    (RunOptions(not_before=NOW + timedelta(days=3_651)), ["options.not_before"]),
    (
        RunOptions(not_before=NOW + timedelta(hours=1), deadline=NOW + timedelta(hours=1)),
        ["options.deadline"],
    ),
    (RunOptions(links=(Link(rel="", title="", url="javascript:alert(1)"),)), ["options.links[0].url"]),
]


@pytest.mark.parametrize(("options", "offending"), BAD_OPTIONS, ids=range(len(BAD_OPTIONS)))
def test_options_beyond_their_limits(options: RunOptions, offending: list[str]) -> None:
    assert [violation.field for violation in validate_options(options, NOW)] == offending


def test_options_at_their_limits() -> None:
    options = RunOptions(
        title="x" * 255,
        trigger_metadata={"a": "x" * 8_191},
        priority=-100,
        labels={f"k{number}": "" for number in range(32)},
        not_before=NOW - timedelta(hours=1),
        deadline=NOW + timedelta(seconds=1),
        links=(Link(rel="pr", title="7", url="https://example.com/7"),),
    )
    assert validate_options(options, NOW) == ()


def test_cancels_at_their_limits() -> None:
    assert validate_cancel(CancelOrder(note="x" * 1_024, grace_s=3_600.0, signal="SIGINT")) == ()
    assert validate_cancel(CancelOrder(grace_s=0.0)) == ()
