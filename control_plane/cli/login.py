"""Log in: keep a control plane's URL and a token as a context, once the token has been seen to work."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.contexts import StoredContext, config_path, read_contexts, write_contexts
from control_plane.cli.errors import CliError
from control_plane.cli.given import read_token
from control_plane.cli.invocation import Invocation
from control_plane.cli.people import with_project_names
from control_plane.cli.target import Target, Wanted, parse_url, resolve
from control_plane.cli.views import PRINCIPAL
from control_plane.cli.words import enum_word


@command(
    "login",
    examples=(
        "banksman login --url https://banksman.example.com",
        "banksman login --url http://127.0.0.1:7070 --token-stdin < token",
    ),
)
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@click.option("--name", metavar="NAME", help="Name of the context (default: the URL's host and port).")
def login(inv: Invocation, token_stdin: bool, name: str | None) -> None:
    """Store a control plane and a token as the current context."""
    url = inv.text_flag("url") or inv.environ.get("BANKSMAN_URL")
    if not url:
        raise CliError("say where to log in", next_command="banksman login --url URL")
    insecure = True if inv.flags.get("insecure") else None
    # Refuses before the token is asked for.
    resolve(Wanted(url=url, token="-", insecure=insecure), inv.environ)
    token = inv.text_flag("token") or read_token(from_stdin=token_stdin)
    target: Target = resolve(Wanted(url=url, token=token, insecure=insecure), inv.environ)
    client = inv.client_for(target)
    try:
        principal = client.call(client.access.WhoAmI, contract.access_pb2.WhoAmIRequest(), repeatable=True)
    finally:
        client.close()
    path = config_path(inv.environ)
    chosen = name or parse_url(url)[0].replace("[", "").replace("]", "")
    stored = StoredContext(
        url=url, token=token, project=inv.text_flag("project") or "", insecure=bool(insecure) and not target.tls
    )
    write_contexts(path, read_contexts(path).with_context(chosen, stored, use=True))
    inv.say(f"logged in to {url} as {principal.name}; context {chosen} is stored in {path}")


@command("whoami", examples=("banksman whoami",))
def whoami(inv: Invocation) -> None:
    """Say who you are for the control plane, and which one that is."""
    principal = inv.client.call(inv.client.access.WhoAmI, contract.access_pb2.WhoAmIRequest(), repeatable=True)
    printer = inv.printer
    if printer.form != "table":
        printer.one(principal, PRINCIPAL)
        return
    (principal,) = with_project_names(inv, [principal])
    target = inv.client.target
    printer.pairs(
        [
            ("name", principal.name),
            ("kind", enum_word(principal, "kind").lower()),
            ("admin", "yes" if principal.admin else "no"),
            ("projects", ",".join(principal.project_ids)),
            ("id", principal.id),
            ("control plane", target.url),
            ("known from", target.source),
        ]
    )
