"""Write things as documents that `apply` takes."""

from __future__ import annotations

from typing import Any

import click

from control_plane.cli.commands import command
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation
from control_plane.cli.kinds import fetch, names
from control_plane.cli.manifest_writer import yaml_documents
from control_plane.cli.manifests import FIELDS, document_data

KINDS = {kind.lower(): kind for kind in FIELDS}


@command(
    "export",
    examples=(
        "banksman export task build > build.yaml",
        "banksman export template deploy",
        "banksman export --all > everything.yaml",
    ),
)
@click.argument("kind", required=False, type=click.Choice(list(KINDS)))
@click.argument("name", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of this kind, or of every kind.")
def export(inv: Invocation, kind: str | None, name: tuple[str, ...], everything: bool) -> None:
    """Print tasks, templates and schedules as YAML that `apply` takes.

    A task brings its schedules along. Ids, times, owners and values of secrets stay behind.
    """
    if everything == bool(name) or (kind is None and not everything):
        raise CliError("name what to export, or say --all", next_command="banksman export --all")
    found: list[tuple[str, Any]] = []
    if everything:
        for each in FIELDS if kind is None else [KINDS[kind]]:
            found += [(each, the(inv, each, known)) for known in sorted(names(inv, each))]
    else:
        for each in name:
            found += named(inv, KINDS[str(kind)], each)
    text = yaml_documents([document_data(each, message) for each, message in found])
    click.echo(text, nl=False)


def named(inv: Invocation, kind: str, name: str) -> list[tuple[str, Any]]:
    message = the(inv, kind, name)
    schedules = sorted(message.schedules, key=lambda schedule: str(schedule.name)) if kind == "Task" else []
    return [(kind, message), *(("Schedule", the(inv, "Schedule", schedule.id)) for schedule in schedules)]


def the(inv: Invocation, kind: str, name: str) -> Any:
    message = fetch(inv, kind, inv.project, name)
    if message is None:
        raise CliError(
            f"there is no {kind.lower()} {name!r}",
            exit_code=ExitCode.NOT_FOUND,
            reason=f"{kind.upper()}_NOT_FOUND",
            next_command=f"banksman {kind.lower()} list",
        )
    return message
