"""Rules of templates: what parameters may be declared, which values they take, and how they are filled in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from control_plane.domain import limits
from control_plane.domain.errors import FieldViolation
from control_plane.domain.ids import TaskId
from control_plane.domain.names import check_secret_name, check_text, violation
from control_plane.domain.spec import EnvVar, RunSpec, Step
from control_plane.domain.task import Task
from control_plane.domain.task_rules import check_task, check_template
from control_plane.domain.template import ParameterType, Template, TemplateParameter
from control_plane.domain.variable_rules import check_rendered, check_value
from control_plane.domain.variables import NAME, Variable, placeholders, substitute

_SHAPE = "must match [A-Za-z_][A-Za-z0-9_]{0,63}"
_WORDS: Mapping[ParameterType, tuple[re.Pattern[str], str]] = {
    ParameterType.INTEGER: (re.compile(r"-?(0|[1-9][0-9]*)"), "a whole number"),
    ParameterType.NUMBER: (re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"), "a number"),
    ParameterType.BOOLEAN: (re.compile(r"true|false"), "true or false"),
}


def check(template: Template, spec: RunSpec, path: str = "template") -> Iterator[FieldViolation]:
    """Everything that is wrong with a template, beside what is wrong with its spec as a spec."""
    task = task_of(template)
    yield from check_task(task, path)
    yield from _parameters(template, f"{path}.parameters")
    for found in check_template(task, spec, path):
        yield _in_a_script(found) if found.field.endswith(".script") else found
    defaults = filled_values(template.parameters, {})
    if defaults:
        allow = template.allow_shell_substitution
        yield from check_rendered(spec, defaults, f"{path}.spec", allow_shell_substitution=allow, refuse_unknown=False)


def check_given(
    parameters: tuple[TemplateParameter, ...], given: Mapping[str, str], path: str, *, elsewhere: Collection[str] = ()
) -> Iterator[FieldViolation]:
    """Values for a template's parameters; those named `elsewhere` are given in another way."""
    known = {parameter.name: parameter for parameter in parameters}
    for name in sorted(given.keys() - known.keys()):
        some = ", ".join(sorted(known)) or "none"
        yield violation(f"{path}[{name[:80]}]", f"the template has no such parameter (it has {some})")
    for parameter in parameters:
        here = f"{path}[{parameter.name}]"
        if parameter.name in given:
            yield from _value(parameter, given[parameter.name], here)
        elif parameter.required and parameter.default_value is None and parameter.name not in elsewhere:
            yield violation(here, "the template requires a value")


def check_secrets(
    parameters: tuple[TemplateParameter, ...], given: Mapping[str, str], secrets: Mapping[str, str]
) -> Iterator[FieldViolation]:
    """How a task takes the sensitive ones: by the name of a secret, never by a value."""
    sensitive = {parameter.name for parameter in parameters if parameter.sensitive}
    for name in sorted(sensitive & given.keys()):
        yield violation(f"parameters[{name}]", "is sensitive: name a secret in secret_parameters, or give it to a run")
    for name in sorted(secrets):
        here = f"secret_parameters[{name[:80]}]"
        if name not in sensitive:
            yield violation(here, "the template has no such sensitive parameter")
        else:
            yield from check_secret_name(secrets[name], here)


def fitting(parameters: tuple[TemplateParameter, ...], given: Mapping[str, str]) -> dict[str, str]:
    """The values that nothing is wrong with: what they make is judged together with what is wrong with the others."""
    known = {parameter.name: parameter for parameter in parameters}
    return {name: value for name, value in given.items() if name in known and not any(_value(known[name], value, ""))}


def filled_values(parameters: tuple[TemplateParameter, ...], given: Mapping[str, str]) -> dict[str, str]:
    """What is filled in: values and defaults of all but the sensitive ones."""
    found = {each.name: given.get(each.name, each.default_value) for each in parameters if not each.sensitive}
    return {name: value for name, value in found.items() if value is not None}


def filled(spec: RunSpec, values: Mapping[str, str]) -> RunSpec:
    """The spec with parameters replaced; what comes out is a template again, of which only variables are left."""
    agent = spec.coding_agent
    return replace(
        spec,
        steps=tuple(_step(step, values) for step in spec.steps),
        env=_env(spec.env, values),
        concurrency=tuple(replace(limit, key=_filled(limit.key, values)) for limit in spec.concurrency),
        coding_agent=None if agent is None else replace(agent, prompt=_filled(agent.prompt, values)),
    )


def remaining(parameters: tuple[TemplateParameter, ...], secrets: Mapping[str, str]) -> tuple[Variable, ...]:
    """The variables that sensitive parameters become. `secrets`: the project's secrets that hold their values."""
    return tuple(
        Variable(
            name=each.name,
            secret_ref=secrets.get(each.name, ""),
            sensitive=True,
            required=each.required,
            description=each.description,
        )
        for each in parameters
        if each.sensitive
    )


def task_of(template: Template) -> Task:
    """A template as the task that it would be: what its own rules, and those of runs, are asked with."""
    return Task(
        id=TaskId(""),
        project_id=template.project_id,
        name=template.name,
        description=template.description,
        spec_sha256=template.spec_sha256,
        labels=template.labels,
        tags=template.tags,
        variables=template.variables,
        unknown_variables=template.unknown_variables,
        allow_shell_substitution=template.allow_shell_substitution,
        allowed_overrides=template.allowed_overrides,
        owner=template.owner,
        is_public=template.is_public,
        report=template.report,
        notifications=template.notifications,
        created_by=template.created_by,
        created_at=template.created_at,
        updated_at=template.updated_at,
        etag=template.etag,
        template_id=template.id,
        template_name=template.name,
        template_version=template.version,
    )


def _parameters(template: Template, path: str) -> Iterator[FieldViolation]:
    parameters = template.parameters
    if len(parameters) > limits.TEMPLATE_PARAMETERS:
        yield violation(path, f"at most {limits.TEMPLATE_PARAMETERS} parameters, are {len(parameters)}")
    sensitive = sum(parameter.sensitive for parameter in parameters)
    if len(template.variables) <= limits.VARIABLES < len(template.variables) + sensitive:
        yield violation(path, f"at most {limits.VARIABLES} variables and sensitive parameters together")
    variables = {variable.name.upper() for variable in template.variables}
    seen: set[str] = set()
    for index, parameter in enumerate(parameters[: limits.TEMPLATE_PARAMETERS]):
        here, name = f"{path}[{index}]", parameter.name
        if not NAME.fullmatch(name):
            yield violation(f"{here}.name", _SHAPE)
        elif name.upper() in seen:
            yield violation(f"{here}.name", f"{name} is given twice (case does not count)")
        elif name.upper() in variables:
            yield violation(f"{here}.name", f"{name} is a variable of the template already")
        seen.add(name.upper())
        yield from _declared(parameter, here)


def _declared(parameter: TemplateParameter, path: str) -> Iterator[FieldViolation]:
    yield from check_text(parameter.description, f"{path}.description", limits.NAME_CHARACTERS * 4)
    allowed = parameter.allowed_values
    if len(allowed) > limits.ALLOWED_VALUES:
        yield violation(f"{path}.allowed_values", f"at most {limits.ALLOWED_VALUES} values, are {len(allowed)}")
    free = replace(parameter, allowed_values=())
    for index, value in enumerate(allowed[: limits.ALLOWED_VALUES]):
        here = f"{path}.allowed_values[{index}]"
        if parameter.sensitive:
            yield violation(here, "a sensitive parameter's values are not written down")
        elif value in allowed[:index]:
            yield violation(here, "is given twice")
        else:
            yield from _value(free, value, here)
    if parameter.default_value is not None:
        here = f"{path}.default_value"
        if parameter.sensitive:
            yield violation(here, "a sensitive parameter has no default")
        else:
            yield from _value(parameter, parameter.default_value, here)


def _value(parameter: TemplateParameter, value: str, field: str) -> Iterator[FieldViolation]:
    wrong = list(check_value(value, field, sensitive=parameter.sensitive))
    yield from wrong
    if wrong:
        return
    if parameter.type in _WORDS:
        pattern, what = _WORDS[parameter.type]
        if not pattern.fullmatch(value):
            yield violation(field, f"must be {what}")
            return
    if parameter.allowed_values and value not in parameter.allowed_values:
        some = ", ".join(each[:80] for each in parameter.allowed_values[:20])
        yield violation(field, f"must be one of {some}")


def _in_a_script(found: FieldViolation) -> FieldViolation:
    text = "must not hold placeholders: give an env variable the value {{ name }}, and read that in the script"
    return violation(found.field, text)


def _step(step: Step, values: Mapping[str, str]) -> Step:
    argv = tuple(_filled(element, values) for element in step.command.argv)
    return replace(step, command=replace(step.command, argv=argv), env=_env(step.env, values))


def _env(env: tuple[EnvVar, ...], values: Mapping[str, str]) -> tuple[EnvVar, ...]:
    return tuple(each if each.value is None else replace(each, value=_filled(each.value, values)) for each in env)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """A text that mentions none of them stays as its author wrote it."""
    return substitute(text, values) if any(name in values for name in placeholders(text)) else text
