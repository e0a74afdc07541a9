"""Change who may call, and what they may."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_projects
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.spec_options import assign
from control_plane.cli.views import PRINCIPAL


@command(
    "update",
    examples=(
        "banksman principal update ci --grant-project web --grant-project shop",
        "banksman principal update bo --disable",
    ),
)
@click.argument("which", metavar="PRINCIPAL")
@click.option("--name", default="", metavar="NAME", help="New name.")
@click.option("--admin/--no-admin", default=None, help="May do everything in every project.")
@click.option(
    "--grant-project",
    multiple=True,
    metavar="NAME",
    help="May use these, and no others.",
    shell_complete=complete_projects,
)
@click.option("--no-projects", is_flag=True, help="May use no project.")
@click.option("--disable/--enable", "disabled", default=None, help="Whether its tokens open anything.")
def update_principal(
    inv: Invocation,
    which: str,
    name: str,
    admin: bool | None,
    grant_project: tuple[str, ...],
    no_projects: bool,
    disabled: bool | None,
) -> None:
    """Change what a principal may do, also for its open calls.

    What is not given stays. A disabled principal's tokens open nothing until it is enabled again; its runs and
    schedules stay.
    """
    if grant_project and no_projects:
        raise CliError("give either --grant-project or --no-projects")
    request = contract.access_pb2.UpdatePrincipalRequest()
    assign(request.principal, "name", which)
    assign(request, "new_name", name)
    if admin is not None:
        request.principal.admin = admin
        request.update_mask.paths.append("admin")
    if grant_project or no_projects:
        request.principal.project_ids[:] = grant_project
        request.update_mask.paths.append("project_ids")
    if disabled is not None:
        request.disabled = disabled
    if not (name or request.update_mask.paths or disabled is not None):
        raise CliError("nothing to change was given", next_command="banksman principal update --help")
    updated = inv.client.call(inv.client.access.UpdatePrincipal, request, repeatable=not name)
    inv.say(f"updated principal {updated.name}")
    if inv.output != "table":
        inv.printer.one(updated, PRINCIPAL)
