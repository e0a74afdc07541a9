"""Variables on the command line: how a task declares them, and what a run brings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from control_plane.cli import contract
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.spec_options import assign

F = TypeVar("F", bound=Callable[..., Any])

DECLARING = ("var", "required_var", "sensitive_var", "secret_var")


def declaring_options(function: F) -> F:
    """Options with which a task declares its variables."""
    for option in (
        click.option("--secret-var", multiple=True, metavar="NAME=SECRET", help="Variable that a secret fills."),
        click.option("--sensitive-var", multiple=True, metavar="NAME", help="Variable that nobody is shown."),
        click.option("--required-var", multiple=True, metavar="NAME", help="Variable that each run must bring."),
        click.option("--var", multiple=True, metavar="NAME=DEFAULT", help="Variable with its default; repeatable."),
    ):
        function = option(function)
    return function


def giving_options(function: F) -> F:
    """Options with which a run brings values."""
    for option in (
        click.option(
            "--sensitive-var",
            multiple=True,
            metavar="NAME[=VALUE]",
            help="As --var, and kept secret; NAME copies $NAME.",
        ),
        click.option("--var", multiple=True, metavar="NAME=VALUE", help="Value of a variable; repeatable."),
    ):
        function = option(function)
    return function


def declare(task: contract.task_pb2.Task, given: dict[str, tuple[str, ...]]) -> bool:
    """Add or replace the named declarations; whether there were any."""
    fresh: dict[str, contract.task_pb2.Variable] = {}
    for pair in given["var"]:
        name, value = split(pair, "--var")
        fresh[name] = _named(name)
        assign(fresh[name].default_value, "string_value", value)
    for pair in given["secret_var"]:
        name, secret = split(pair, "--secret-var")
        fresh[name] = _named(name)
        assign(fresh[name], "secret_ref", secret)
    for field, names in (("required", given["required_var"]), ("sensitive", given["sensitive_var"])):
        for name in names:
            if "=" in name:
                raise CliError(
                    f"--{field}-var {name.partition('=')[0]} takes no value here: each run brings it",
                    next_command="--var NAME=DEFAULT for a default, or --secret-var NAME=SECRET for a secret's value",
                )
            fresh.setdefault(name, _named(name))
            assign(fresh[name], field, True)
    kept = [
        contract.task_pb2.Variable.FromString(each.SerializeToString())
        for each in task.variables
        if each.name not in fresh
    ]
    del task.variables[:]
    task.variables.extend([*kept, *fresh.values()])
    return bool(fresh)


def give(
    inv: Invocation, options: contract.run_pb2.RunOptions, var: Sequence[str], sensitive_var: Sequence[str]
) -> None:
    """Put values into a run's options."""
    give_values(options.variables, var)
    for pair in sensitive_var:
        name, equals, value = pair.partition("=")
        if not equals and name not in inv.environ:
            raise CliError(f"--sensitive-var {name}: your environment has no such variable")
        assign(options.variables[name], "string_value", value if equals else inv.environ[name])
        options.sensitive_variables.append(name)


def give_values(variables: Any, var: Sequence[str]) -> None:
    """Put values into a map of a request."""
    for pair in var:
        name, value = split(pair, "--var")
        assign(variables[name], "string_value", value)


def copied(inv: Invocation, var: Sequence[str]) -> tuple[str, ...]:
    """NAME alone as NAME=VALUE with the value of $NAME: a secret one is seen by no other process then."""
    for name in var:
        if "=" not in name and name not in inv.environ:
            raise CliError(f"--var {name}: your environment has no such variable")
    return tuple(pair if "=" in pair else f"{pair}={inv.environ[pair]}" for pair in var)


def split(pair: str, option: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise CliError(f"{option} {pair!r} is not NAME=VALUE")
    return name, value


def _named(name: str) -> contract.task_pb2.Variable:
    variable = contract.task_pb2.Variable()
    assign(variable, "name", name)
    return variable
