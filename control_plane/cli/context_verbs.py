"""Look at stored contexts and change them; tokens in them are never printed."""

from __future__ import annotations

from dataclasses import replace

import click

from control_plane.cli.commands import command
from control_plane.cli.completing import complete_contexts
from control_plane.cli.contexts import ContextFile, StoredContext, config_path, read_contexts, write_contexts
from control_plane.cli.errors import CliError
from control_plane.cli.given import read_token
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import json_text, yaml_text
from control_plane.cli.target import parse_url


@command("list", examples=("banksman context list",))
def list_contexts(inv: Invocation) -> None:
    """List stored contexts."""
    file = read_contexts(config_path(inv.environ))
    data = [about(file, name, stored) for name, stored in sorted(file.contexts.items())]
    printer = inv.printer
    match printer.form:
        case "json":
            printer.write(json_text(data, indent=2))
        case "yaml":
            printer.write(yaml_text(data).rstrip("\n"))
        case "jsonl":
            for entry in data:
                printer.write(json_text(entry))
        case "name":
            for entry in data:
                printer.write(str(entry["name"]))
        case _:
            rows = [["*" if entry["current"] else "", *(str(entry[key]) for key in KEYS)] for entry in data]
            printer.table(["CURRENT", *(key.upper() for key in KEYS)], rows)


KEYS = ("name", "url", "project")


def about(file: ContextFile, name: str, stored: StoredContext) -> dict[str, object]:
    """A context as data, without its token."""
    return {
        "name": name,
        "url": stored.url,
        "project": stored.project,
        "insecure": stored.insecure,
        "has_token": bool(stored.token),
        "current": file.current == name,
    }


@command("use", examples=("banksman context use work",))
@click.argument("name", shell_complete=complete_contexts)
def use(inv: Invocation, name: str) -> None:
    """Make a context the current one."""
    path = config_path(inv.environ)
    file = read_contexts(path)
    write_contexts(path, replace(file, current=name) if file.get(name) else file)
    inv.say(f"context {name} is the current one")


@command("set", examples=("banksman context set work --default-project web",))
@click.argument("name", shell_complete=complete_contexts)
@click.option("--default-project", metavar="NAME", help="Project to work in.")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@click.option("--allow-plaintext/--refuse-plaintext", default=None, help="Plaintext to another host.")
def set_context(
    inv: Invocation, name: str, default_project: str | None, token_stdin: bool, allow_plaintext: bool | None
) -> None:
    """Change a context, or make one with --url."""
    path = config_path(inv.environ)
    file = read_contexts(path)
    url = inv.text_flag("url")
    stored = file.contexts.get(name)
    if stored is None:
        if url is None:
            raise CliError(f"there is no context {name!r}; give --url to make it")
        stored = StoredContext(url=url)
    if url is not None:
        parse_url(url)
        # A token is for one control plane only.
        stored = replace(stored, url=url, token=stored.token if url == stored.url else "")
    if default_project is not None:
        stored = replace(stored, project=default_project)
    if allow_plaintext is not None:
        stored = replace(stored, insecure=allow_plaintext)
    if token_stdin:
        stored = replace(stored, token=read_token(from_stdin=True))
    write_contexts(path, file.with_context(name, stored, use=False))
    inv.say(f"context {name} is stored in {path}")


@command("rm", examples=("banksman context rm work",))
@click.argument("name", shell_complete=complete_contexts)
def remove(inv: Invocation, name: str) -> None:
    """Forget a context and its token."""
    path = config_path(inv.environ)
    write_contexts(path, read_contexts(path).without(name))
    inv.say(f"context {name} is forgotten")
