"""What is made of a template: a task, or a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import command, key_values
from control_plane.cli.completing import complete_templates
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.run_exec import (
    build_options,
    check_following,
    follow_option,
    propagate_option,
    run_options,
    started,
    wait_option,
)
from control_plane.cli.schedule_options import rule_options, set_rule
from control_plane.cli.spec_options import assign
from control_plane.cli.tasks import show
from control_plane.cli.variable_options import split

F = TypeVar("F", bound=Callable[..., Any])


def use_options(function: F) -> F:
    """Options with which a template is used."""
    for option in (
        click.option("--version", type=click.IntRange(1), default=None, help="An older version."),
        click.option("-p", "--param", multiple=True, metavar="NAME=VALUE", help="Value of a parameter; repeatable."),
    ):
        function = option(function)
    return function


def give(values: Any, param: tuple[str, ...]) -> None:
    for pair in param:
        name, value = split(pair, "--param")
        assign(values[name], "string_value", value)


@command(
    "instantiate",
    examples=(
        "banksman template instantiate deploy deploy-test -p stage=test",
        "banksman template instantiate deploy nightly -p stage=test --cron '0 3 * * *'",
    ),
)
@click.argument("template", shell_complete=complete_templates)
@click.argument("name")
@use_options
@click.option("--secret-param", multiple=True, metavar="NAME=SECRET", help="Secret for a sensitive parameter.")
@click.option("--description", metavar="TEXT", default="", help="Instead of the template's.")
@click.option("--tag", multiple=True, metavar="TAG", help="Beside the template's; repeatable.")
@click.option("--public", is_flag=True, help="Other members may see and run it.")
@rule_options
def instantiate(
    inv: Invocation,
    template: str,
    name: str,
    version: int | None,
    param: tuple[str, ...],
    secret_param: tuple[str, ...],
    description: str,
    tag: tuple[str, ...],
    public: bool,
    **rule: Any,
) -> None:
    """Make a task of a template, with its parameters filled in."""
    request = contract.template_pb2.InstantiateTemplateRequest(
        project=inv.project, template=template, version=version or 0, request_id=new_request_id()
    )
    give(request.parameters, param)
    request.secret_parameters.update(key_values(secret_param, "--secret-param"))
    assign(request.task, "name", name)
    assign(request.task, "description", description)
    request.task.tags.extend(tag)
    request.task.active = True
    if public:
        request.task.is_public = True
    schedule = contract.schedule_pb2.Schedule()
    if set_rule(inv, schedule, rule):
        request.task.schedules.append(schedule)
    show(inv, inv.client.call(inv.client.templates.InstantiateTemplate, request, repeatable=True), "created")


@command(
    "run",
    examples=(
        "banksman template run deploy -p stage=test --follow",
        "banksman template run deploy -p stage=live --sensitive-param password",
    ),
)
@click.argument("template", shell_complete=complete_templates)
@use_options
@click.option(
    "--sensitive-param", multiple=True, metavar="NAME", help="Parameter whose value is copied from $NAME; repeatable."
)
@run_options
@propagate_option
@wait_option
@follow_option
def run_template(
    inv: Invocation,
    template: str,
    version: int | None,
    param: tuple[str, ...],
    sensitive_param: tuple[str, ...],
    follow: bool,
    wait_timeout: float | None,
    propagate_exit_code: bool,
    **about: Any,
) -> int:
    """Run a template directly, without a task."""
    check_following(follow=follow, wait_timeout_s=wait_timeout, propagate=propagate_exit_code)
    use = contract.run_pb2.TemplateUse(template=template, version=version or 0)
    give(use.parameters, param)
    for name in sensitive_param:
        if name not in inv.environ:
            raise CliError(f"--sensitive-param {name}: your environment has no such variable")
        assign(use.parameters[name], "string_value", inv.environ[name])
    request_id = about.pop("request_id") or new_request_id()
    request = contract.run_pb2.CreateRunRequest(
        project=inv.project, template=use, options=build_options(inv, **about), request_id=request_id
    )
    run = inv.client.call(inv.client.runs.CreateRun, request, repeatable=True)
    return started(inv, run, follow=follow, wait_timeout_s=wait_timeout, propagate=propagate_exit_code)
