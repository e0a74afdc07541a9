"""Rules of variables: how they are declared and given, where they may stand, and what may come out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from control_plane.domain import limits
from control_plane.domain.errors import FieldViolation
from control_plane.domain.names import check_secret_name, check_text, violation
from control_plane.domain.shells import program_elements
from control_plane.domain.spec import Command, EnvVar, RunSpec, Step
from control_plane.domain.variables import ENV_PREFIX, NAME, Variable, env_name, environment, placeholders, render

_READ = re.compile(rf"{ENV_PREFIX}([A-Za-z0-9_]+)")
_SHAPE = "must match [A-Za-z_][A-Za-z0-9_]{0,63}"


def check_declared(variables: tuple[Variable, ...], path: str) -> Iterator[FieldViolation]:
    """What a task may say about its variables."""
    if len(variables) > limits.VARIABLES:
        yield violation(path, f"at most {limits.VARIABLES} variables, are {len(variables)}")
    seen: set[str] = set()
    for index, variable in enumerate(variables[: limits.VARIABLES]):
        here = f"{path}[{index}]"
        yield from _name(variable.name, f"{here}.name", seen)
        yield from check_text(variable.description, f"{here}.description", limits.NAME_CHARACTERS * 4)
        if variable.secret_ref:
            yield from check_secret_name(variable.secret_ref, f"{here}.secret_ref")
        if variable.default_value is None:
            continue
        if variable.secret_ref:
            yield violation(here, "at most one of default_value and secret_ref may be given")
        if variable.sensitive:
            yield violation(f"{here}.default_value", "a sensitive variable takes its default from a secret: secret_ref")
        yield from check_value(variable.default_value, f"{here}.default_value")


def check_given(values: Mapping[str, str], sensitive: Collection[str], path: str) -> Iterator[FieldViolation]:
    """What a run may bring."""
    if len(values) > limits.VARIABLES:
        yield violation(path, f"at most {limits.VARIABLES} variables, are {len(values)}")
    seen: set[str] = set()
    for name in sorted(values)[: limits.VARIABLES]:
        yield from _name(name, f"{path}[{name[:80]}]", seen)
        yield from check_value(values[name], f"{path}[{name[:80]}]", sensitive=name in sensitive)


def check_value(value: str, field: str, *, sensitive: bool = False) -> Iterator[FieldViolation]:
    """A sensitive one is long enough to be found, and masked, in a log."""
    size = len(value.encode())
    if size > limits.VARIABLE_BYTES:
        yield violation(field, f"must have at most {limits.VARIABLE_BYTES} bytes, has {size}")
    if "\0" in value:
        yield violation(field, "must not hold NUL")
    if sensitive and len(value.strip().encode()) < limits.SECRET_SMALLEST_BYTES:
        yield violation(field, f"a sensitive value must have at least {limits.SECRET_SMALLEST_BYTES} bytes")


def check_places(spec: RunSpec, path: str, *, allow_shell_substitution: bool) -> Iterator[FieldViolation]:
    """Where a placeholder must not stand: in what something would execute, and where none is replaced."""
    for index, step in enumerate(spec.steps):
        command, here = step.command, f"{path}.steps[{index}].command"
        if names := placeholders(command.script):
            yield violation(f"{here}.script", _in_script(names[0]))
        if names := placeholders(command.working_directory):
            yield violation(f"{here}.working_directory", f"variables are not replaced here: {{{{ {names[0]} }}}}")
        for number, element in enumerate(command.interpreter):
            if names := placeholders(element):
                yield violation(f"{here}.interpreter[{number}]", f"variables are not replaced here: {names[0]}")
        if not allow_shell_substitution:
            yield from _in_programs(command.argv, command.argv, here)
    for index, pattern in enumerate(spec.artifacts):
        if names := placeholders(pattern.path):
            # A value could hold a wildcard: which files are kept is the task's word alone.
            text = f"variables are not replaced here: {{{{ {names[0]} }}}}; a wildcard may, as in app-*.tar"
            yield violation(f"{path}.artifacts[{index}].path", text)


def check_rendered(
    spec: RunSpec,
    values: Mapping[str, str],
    path: str,
    *,
    allow_shell_substitution: bool,
    refuse_unknown: bool,
) -> Iterator[FieldViolation]:
    """What comes out for these values: sizes as the kernel counts them, shells that a value named, unknown names."""
    if refuse_unknown:
        yield from _unknown(spec, values, path)
    rendered = render_spec(spec, values)
    extra = environment(values)
    for index, (before, after) in enumerate(zip(spec.steps, rendered.steps, strict=True)):
        here = f"{path}.steps[{index}].command"
        if not allow_shell_substitution:
            yield from _in_programs(before.command.argv, after.command.argv, here)
        for number, element in enumerate(after.command.argv):
            yield from _element(len(element.encode()), f"{here}.argv[{number}]")
        yield from _env(rendered, after, extra, here)
    prompt = "" if rendered.coding_agent is None else rendered.coding_agent.prompt
    yield from check_text(prompt, f"{path}.coding_agent.prompt", limits.PROMPT_BYTES)


def render_spec(spec: RunSpec, values: Mapping[str, str]) -> RunSpec:
    """The spec with variables in prompt, argv and env values replaced; scripts only lose what escapes a `{{`."""
    agent = spec.coding_agent
    return replace(
        spec,
        steps=tuple(_step(step, values) for step in spec.steps),
        env=_variables(spec.env, values),
        coding_agent=None if agent is None else replace(agent, prompt=render(agent.prompt, values)),
    )


def _step(step: Step, values: Mapping[str, str]) -> Step:
    command = replace(
        step.command,
        argv=tuple(render(element, values) for element in step.command.argv),
        script=render(step.command.script, {}),
    )
    return replace(step, command=command, env=_variables(step.env, values))


def _variables(env: tuple[EnvVar, ...], values: Mapping[str, str]) -> tuple[EnvVar, ...]:
    return tuple(each if each.value is None else replace(each, value=render(each.value, values)) for each in env)


def _name(name: str, field: str, seen: set[str]) -> Iterator[FieldViolation]:
    """Programs read them from the environment in capitals, so that case does not tell two apart."""
    if not NAME.fullmatch(name):
        yield violation(field, _SHAPE)
    elif name.upper() in seen:
        yield violation(field, f"{name} is given twice (case does not count)")
    seen.add(name.upper())


def _in_script(name: str) -> str:
    return f"must not hold {{{{ {name} }}}}: a script reads its variables from the environment, as ${env_name(name)}"


def environment_name(name: str) -> str:
    return next(iter(environment({name: ""})))


def _in_programs(template: tuple[str, ...], argv: tuple[str, ...], path: str) -> Iterator[FieldViolation]:
    for index in sorted(program_elements(argv)):
        if names := placeholders(template[index]):
            text = f"{{{{ {names[0]} }}}} would be read as a program by a shell; give it as an argument, as in"
            text += " sh -c 'echo \"$1\"' sh '{{ name }}', or set allow_shell_substitution"
            yield violation(f"{path}.argv[{index}]", text)


def _unknown(spec: RunSpec, values: Mapping[str, str], path: str) -> Iterator[FieldViolation]:
    for field, text in places(spec, path):
        for name in dict.fromkeys(placeholders(text)):
            if name not in values:
                yield violation(field, f"the variable {name!r} has no value")


def check_known(
    values: Collection[str], declared: Collection[str], spec: RunSpec, path: str
) -> Iterator[FieldViolation]:
    """Values that would reach nothing: the task neither declares the variable, nor does its spec mention it."""
    calls = {name.upper() for name in declared}
    strange = sorted(name for name in values if name.upper() not in calls and NAME.fullmatch(name))
    if not strange:
        return
    named = {name for _, text in places(spec, path) for name in placeholders(text)}
    read = {name.upper() for text in _written(spec) for name in _READ.findall(text)}
    known = sorted({*declared, *named})
    for name in strange:
        if name in named or name.upper() in read:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        text = "no such variable is declared or used"
        text += f"; did you mean {near[0]!r}?" if near else f" ({', '.join(known[:20]) or 'none'} would be)"
        yield violation(f"{path}[{name[:80]}]", text)


def _written(spec: RunSpec) -> Iterator[str]:
    """Where a program may read a variable from its environment, as far as the spec shows."""
    yield from (each.value or "" for each in spec.env)
    for step in spec.steps:
        yield from (*step.command.argv, step.command.script, *(each.value or "" for each in step.env))
        yield step.command.stdin.decode(errors="replace")


def places(spec: RunSpec, path: str) -> Iterator[tuple[str, str]]:
    """Every text in which variables are replaced, with its field."""
    if spec.coding_agent is not None:
        yield f"{path}.coding_agent.prompt", spec.coding_agent.prompt
    yield from _env_places(spec.env, f"{path}.env")
    for index, limit in enumerate(spec.concurrency):
        yield f"{path}.concurrency[{index}].key", limit.key
    for index, step in enumerate(spec.steps):
        for number, element in enumerate(step.command.argv):
            yield f"{path}.steps[{index}].command.argv[{number}]", element
        yield from _env_places(step.env, f"{path}.steps[{index}].env")


def _env_places(env: tuple[EnvVar, ...], path: str) -> Iterator[tuple[str, str]]:
    for index, variable in enumerate(env):
        if variable.value is not None:
            yield f"{path}[{index}].value", variable.value


def _element(size: int, field: str) -> Iterator[FieldViolation]:
    if size > limits.ARGV_ELEMENT_BYTES:
        most = limits.ARGV_ELEMENT_BYTES
        yield violation(field, f"must have at most {most} bytes with its variables replaced, has {size}")


def _env(spec: RunSpec, step: Step, extra: Mapping[str, str], path: str) -> Iterator[FieldViolation]:
    """The kernel takes `NAME=value` as one string with its NUL."""
    known = {each.name: each.value or "" for each in (*spec.env, *step.env)} | dict(extra)
    sizes = {name: len(name.encode()) + len(value.encode()) + 1 for name, value in known.items()}
    for name, size in sizes.items():
        yield from _element(size, f"{path}.env[{name}]")
    command: Command = step.command
    arguments = sum(len(element.encode()) + 1 for element in (*command.interpreter, *command.argv))
    if arguments + sum(sizes.values()) + len(sizes) > limits.ARGV_AND_ENV_BYTES:
        most = limits.ARGV_AND_ENV_BYTES
        yield violation(path, f"argv and env must have at most {most} bytes together with the variables' values")
