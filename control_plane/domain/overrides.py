"""What one run of a task may do otherwise than the task's spec says."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields, replace

from control_plane.domain.errors import FieldViolation
from control_plane.domain.names import violation
from control_plane.domain.run import RunOverrides
from control_plane.domain.spec import EnvVar, RunSpec

# As the contract names them.
OVERRIDABLE = tuple(each.name.removesuffix("_s") for each in fields(RunOverrides))
_PLAIN = (
    *("timeout_s", "idle_timeout_s", "start_timeout_s", "queue_timeout_s", "grace_s"),
    *("selectors", "runner", "slots", "retry", "loss"),
)


def given(overrides: RunOverrides) -> tuple[str, ...]:
    """The names of the fields that are given."""
    unsaid = RunOverrides()
    return tuple(
        each.name.removesuffix("_s")
        for each in fields(RunOverrides)
        if getattr(overrides, each.name) != getattr(unsaid, each.name)
    )


def check_allowed(overrides: RunOverrides, allowed: Collection[str], path: str) -> Iterator[FieldViolation]:
    for name in given(overrides):
        if name not in allowed:
            some = ", ".join(sorted(allowed)) or "none"
            yield violation(f"{path}.{name}", f"the task does not allow it (it allows {some})")


def overridden(spec: RunSpec, overrides: RunOverrides) -> RunSpec:
    """The task's spec as this run has it."""
    unsaid = RunOverrides()
    changes = {name: value for name in _PLAIN if (value := getattr(overrides, name)) != getattr(unsaid, name)}
    if overrides.env:
        changes["env"] = _merged(spec.env, overrides.env)
    if overrides.working_directory:
        changes["steps"] = tuple(
            replace(step, command=replace(step.command, working_directory=overrides.working_directory))
            for step in spec.steps
        )
    if overrides.env:
        # A step's own value would win over the spec's: the run's wins over both.
        names = {variable.name for variable in overrides.env}
        steps = changes.get("steps", spec.steps)
        changes["steps"] = tuple(
            replace(step, env=tuple(each for each in step.env if each.name not in names)) for step in steps
        )
    return replace(spec, **changes)


def _merged(env: tuple[EnvVar, ...], more: tuple[EnvVar, ...]) -> tuple[EnvVar, ...]:
    names = {variable.name for variable in more}
    return (*(variable for variable in env if variable.name not in names), *more)
