"""Join tokens: with one a new runner enrols, once."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import Seconds, command, key_values
from control_plane.cli.completing import complete_projects
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import View
from control_plane.cli.spec_options import set_duration
from control_plane.cli.views import JOIN_TOKEN

# The answer to a create: nothing but the secret has a name of its own.
MADE = View(columns=(), name=lambda made: str(made.secret))


@command(
    "create",
    examples=(
        "banksman runner join-token create > join.token",
        "banksman runner join-token create --grant os=linux --lifetime 1h",
    ),
)
@click.option("--pool", default="", help="Pool that the runner belongs to.")
@click.option("--grant", multiple=True, metavar="K=V", help="Label that the runner may claim (default: any).")
@click.option(
    "--allow-project", multiple=True, metavar="NAME", help="Only this project.", shell_complete=complete_projects
)
@click.option("--lifetime", type=Seconds(), help="How long it can be used (default: 15m).")
def create(
    inv: Invocation, pool: str, grant: tuple[str, ...], allow_project: tuple[str, ...], lifetime: float | None
) -> None:
    """Make a join token. It is printed once, here."""
    request = contract.runner_pb2.CreateJoinTokenRequest(
        pool=pool, granted_labels=key_values(grant, "--grant"), allowed_projects=allow_project
    )
    if lifetime is not None:
        set_duration(request.lifetime, lifetime)
    made = inv.client.call(inv.client.runners.CreateJoinToken, request, repeatable=False)
    if inv.output == "table":
        inv.printer.write(made.secret)
        inv.say(f"on the runner's host: banksman-runner run --server {inv.client.target.url} --join-token-file FILE")
    else:
        inv.printer.one(made, MADE)


@command("list", examples=("banksman runner join-token list",))
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_tokens(inv: Invocation, limit: int | None) -> None:
    """List join tokens, without their secrets."""
    request = contract.runner_pb2.ListJoinTokensRequest()
    found = inv.client.pages(inv.client.runners.ListJoinTokens, request, lambda page: page.join_tokens, limit=limit)
    inv.printer.rows(found, JOIN_TOKEN)


@command("rm", examples=("banksman runner join-token rm 0199...",))
@click.argument("join_token")
def remove(inv: Invocation, join_token: str) -> None:
    """Delete a join token that was not used."""
    request = contract.runner_pb2.DeleteJoinTokenRequest(join_token=join_token)
    inv.client.call(inv.client.runners.DeleteJoinToken, request, repeatable=False)
    inv.say(f"deleted join token {join_token}")
