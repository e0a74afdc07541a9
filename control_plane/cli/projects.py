"""Projects: namespaces for tasks, runs, schedules and secrets."""

from __future__ import annotations

from typing import Any

import click

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import command, confirm, yes_option
from control_plane.cli.completing import complete_projects
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.limit_options import project_options, set_project
from control_plane.cli.spec_options import assign
from control_plane.cli.views import PROJECT


@command("create", examples=("banksman project create web --description 'The shop'",))
@click.argument("name")
@click.option("--description", default="", help="What it is for.")
@project_options
def create(inv: Invocation, name: str, description: str, **said: Any) -> None:
    """Make a project."""
    project = contract.project_pb2.Project()
    assign(project, "name", name)
    assign(project, "description", description)
    set_project(project, said)
    request = contract.project_pb2.CreateProjectRequest(project=project, request_id=new_request_id())
    show(inv, inv.client.call(inv.client.projects.CreateProject, request, repeatable=True), "created")


def show(inv: Invocation, project: contract.project_pb2.Project, what: str) -> None:
    inv.say(f"{what} project {project.name}")
    if inv.output != "table":
        inv.printer.one(project, PROJECT)
    elif what == "created":
        inv.printer.write(project.id)


@command("list", examples=("banksman project list",))
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_projects(inv: Invocation, limit: int | None) -> None:
    """List the projects that you may use."""
    request = contract.project_pb2.ListProjectsRequest()
    found = inv.client.pages(inv.client.projects.ListProjects, request, lambda page: page.projects, limit=limit)
    inv.printer.rows(found, PROJECT)


def fetch(inv: Invocation, name: str) -> contract.project_pb2.Project:
    request = contract.project_pb2.GetProjectRequest(project=name)
    return inv.client.call(inv.client.projects.GetProject, request, repeatable=True)


@command("get", examples=("banksman project get web",))
@click.argument("name", shell_complete=complete_projects)
def get(inv: Invocation, name: str) -> None:
    """Show a project."""
    inv.printer.one(fetch(inv, name), PROJECT)


@command(
    "update",
    examples=("banksman project update web --max-concurrent 4", "banksman project update web --keep-logs 14d"),
)
@click.argument("which", metavar="PROJECT", shell_complete=complete_projects)
@click.option("--name", metavar="NAME", help="New name.")
@click.option("--description", help="What it is for.")
@project_options
def update(inv: Invocation, which: str, name: str | None, description: str | None, **said: Any) -> None:
    """Change a project; what is not given stays. Refused when somebody else changed it meanwhile."""
    if name is None and description is None and all(value is None for value in said.values()):
        raise CliError("nothing to change was given", next_command="banksman project update --help")
    fresh = fetch(inv, which)
    if name is not None:
        assign(fresh, "name", name)
    if description is not None:
        assign(fresh, "description", description)
    set_project(fresh, said)
    request = contract.project_pb2.UpdateProjectRequest(project=fresh)
    show(inv, inv.client.call(inv.client.projects.UpdateProject, request, repeatable=False), "updated")


@command("delete", examples=("banksman project delete web --yes",))
@click.argument("name", shell_complete=complete_projects)
@yes_option
def delete(inv: Invocation, name: str, yes: bool) -> None:
    """Delete an empty project."""
    confirm(inv, f"Delete project {name}?", yes=yes)
    request = contract.project_pb2.DeleteProjectRequest(project=name)
    inv.client.call(inv.client.projects.DeleteProject, request, repeatable=False)
    inv.say(f"deleted project {name}")
