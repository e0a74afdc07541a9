"""Secrets of a project: values go in and never come out."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command, confirm, yes_option
from control_plane.cli.completing import complete_secrets
from control_plane.cli.errors import CliError
from control_plane.cli.given import read_secret
from control_plane.cli.invocation import Invocation
from control_plane.cli.views import SECRET


@command(
    "set",
    examples=("banksman secret set DEPLOY_KEY --from-file key.pem", 'printf %s "$VALUE" | banksman secret set TOKEN'),
)
@click.argument("name", shell_complete=complete_secrets)
@click.option("--from-file", metavar="FILE", help="Take the file's bytes as they are; - is standard input.")
def set_secret(inv: Invocation, name: str, from_file: str | None) -> None:
    """Store a secret's value.

    It comes from a file, a hidden prompt, or standard input without its last newline.
    """
    value = read_secret(from_file, f"Value of {name}")
    if not value:
        raise CliError("the value is empty")
    request = contract.secret_pb2.SetSecretRequest(project=inv.project, name=name, value=value)
    stored = inv.client.call(inv.client.secrets.SetSecret, request, repeatable=False)
    inv.say(f"secret {stored.name} is set, version {stored.version}")
    if inv.output != "table":
        inv.printer.one(stored, SECRET)


@command("list", examples=("banksman secret list",))
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_secrets(inv: Invocation, limit: int | None) -> None:
    """List the project's secrets, without their values."""
    request = contract.secret_pb2.ListSecretsRequest(project=inv.project)
    found = inv.client.pages(inv.client.secrets.ListSecrets, request, lambda page: page.secrets, limit=limit)
    inv.printer.rows(found, SECRET)


@command("rm", examples=("banksman secret rm DEPLOY_KEY --yes",))
@click.argument("name", shell_complete=complete_secrets)
@click.option("--force", is_flag=True, help="Also while tasks or templates refer to it.")
@yes_option
def remove(inv: Invocation, name: str, force: bool, yes: bool) -> None:
    """Delete a secret; runs that need it fail from now on."""
    confirm(inv, f"Delete secret {name}?", yes=yes)
    request = contract.secret_pb2.DeleteSecretRequest(project=inv.project, name=name, force=force)
    inv.client.call(inv.client.secrets.DeleteSecret, request, repeatable=False)
    inv.say(f"deleted secret {name}")
