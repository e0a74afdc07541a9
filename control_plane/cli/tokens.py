"""Principals, and the API tokens that belong to them."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import Seconds, command
from control_plane.cli.completing import complete_projects
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import View
from control_plane.cli.people import with_project_names
from control_plane.cli.spec_options import assign, set_duration
from control_plane.cli.views import PRINCIPAL, TOKEN

# The answer to a create: nothing but the secret has a name of its own.
MADE = View(columns=(), name=lambda made: str(made.secret))


@command(
    "create", examples=("banksman token create --note laptop", "banksman token create --principal ci --lifetime 90d")
)
@click.option("--principal", default="", metavar="NAME", help="Whose token (default: yours).")
@click.option("--note", default="", help="What it is for.")
@click.option("--lifetime", type=Seconds(), help="How long it is valid (default: until it is revoked).")
def create(inv: Invocation, principal: str, note: str, lifetime: float | None) -> None:
    """Make an API token. It is printed once, here."""
    request = contract.access_pb2.CreateTokenRequest(principal=principal, note=note, request_id=new_request_id())
    if lifetime is not None:
        set_duration(request.lifetime, lifetime)
    made = inv.client.call(inv.client.access.CreateToken, request, repeatable=True)
    if not made.secret:
        # The first try was stored and its answer was lost: the secret exists nowhere any more.
        raise CliError(
            "the token was made, but the answer with its secret was lost",
            exit_code=ExitCode.UNAVAILABLE,
            next_command=f"banksman token revoke {made.token.id}, and create another",
        )
    if inv.output == "table":
        inv.printer.write(made.secret)
        inv.say(f"token {made.token.id} of {made.token.principal_name}; it is not shown again")
    else:
        inv.printer.one(made, MADE)


@command("list", examples=("banksman token list", "banksman token list --all"))
@click.option("--principal", default="", metavar="NAME", help="Whose (default: yours).")
@click.option("--all", "everything", is_flag=True, help="Of all principals (admins).")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_tokens(inv: Invocation, principal: str, everything: bool, limit: int | None) -> None:
    """List tokens, without their secrets."""
    request = contract.access_pb2.ListTokensRequest(principal="*" if everything else principal)
    found = inv.client.pages(inv.client.access.ListTokens, request, lambda page: page.tokens, limit=limit)
    inv.printer.rows(found, TOKEN)


@command("revoke", examples=("banksman token revoke 0199...",))
@click.argument("which", metavar="TOKEN")
def revoke(inv: Invocation, which: str) -> None:
    """Make a token invalid for ever."""
    request = contract.access_pb2.RevokeTokenRequest(token=which)
    inv.client.call(inv.client.access.RevokeToken, request, repeatable=True)
    inv.say(f"revoked token {which}")


@command("create", examples=("banksman principal create ci --kind service --grant-project web",))
@click.argument("name")
@click.option("--kind", type=click.Choice(["user", "service"]), default="user", show_default=True, help="Who it is.")
@click.option("--admin", is_flag=True, help="May do everything in every project.")
@click.option("--grant-project", multiple=True, metavar="NAME", help="May use it.", shell_complete=complete_projects)
def create_principal(inv: Invocation, name: str, kind: str, admin: bool, grant_project: tuple[str, ...]) -> None:
    """Make a principal, to which tokens can belong."""
    principal = contract.access_pb2.Principal(
        kind=contract.access_pb2.PrincipalKind.Value(f"PRINCIPAL_KIND_{kind.upper()}"),
        admin=admin,
        project_ids=grant_project,
    )
    assign(principal, "name", name)
    request = contract.access_pb2.CreatePrincipalRequest(principal=principal, request_id=new_request_id())
    created = inv.client.call(inv.client.access.CreatePrincipal, request, repeatable=True)
    inv.say(f"created principal {created.name}; for its token: banksman token create --principal {created.name}")
    if not admin and not grant_project:
        inv.say("warning: it may use no project; --grant-project NAME names those that it may")
    if inv.output == "table":
        inv.printer.write(created.id)
    else:
        inv.printer.one(created, PRINCIPAL)


@command("list", examples=("banksman principal list",))
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_principals(inv: Invocation, limit: int | None) -> None:
    """List principals."""
    request = contract.access_pb2.ListPrincipalsRequest()
    found = inv.client.pages(inv.client.access.ListPrincipals, request, lambda page: page.principals, limit=limit)
    inv.printer.rows(with_project_names(inv, found), PRINCIPAL)
