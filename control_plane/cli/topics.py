"""Help on what no single command's help says: exit codes, environment, formatting."""

from __future__ import annotations

import click

from control_plane.cli.commands import command
from control_plane.cli.errors import CliError
from control_plane.cli.exits import MEANINGS
from control_plane.cli.invocation import Invocation

ENVIRONMENT = """\
BANKSMAN_URL         control plane, e.g. http://127.0.0.1:7070 or https://banksman.example.com
BANKSMAN_TOKEN       API token; set and empty is an error
BANKSMAN_CONTEXT     name of the stored context to use
BANKSMAN_PROJECT     project to work in
BANKSMAN_INSECURE    1 allows plaintext to another host
BANKSMAN_STATE_DIR   state directory of a server on this host, whose admin.json is used
XDG_CONFIG_HOME      contexts are in banksman/config.toml under it (default: ~/.config)
XDG_STATE_HOME       servers are looked for in banksman/ under it (default: ~/.local/state)
NO_COLOR             no colours

Where to connect: --url, --context, BANKSMAN_URL, the current context, a server on this host; the first
that is there wins. As whom: --token, BANKSMAN_TOKEN, else the token stored for that very URL.
"""

FORMATTING = """\
-o table   (default) on a terminal a table with short ids and relative times; in a pipe the same
           columns separated by tabs under one line of titles, whole ids, UTC times, no colour
-o json    one document; a list is an array
-o jsonl   one object a line
-o yaml    one document, only fields that are set
-o name    names (runs, tokens: ids), one a line

json and jsonl hold every field under the contract's own names, so they stay stable: times are UTC,
durations are seconds with an s ("90s"), 64-bit numbers are strings, enums are their full names.
A log is bytes: on a terminal everything but colours is taken out of its escape sequences, in a pipe it
is left as it is. `run logs -o jsonl` prints records with offset, time, stream and base64 data.
"""


def exit_codes() -> str:
    return "".join(f"{int(code):>4}  {meaning}\n" for code, meaning in MEANINGS.items()) + (
        "\nWith --propagate-exit-code a run that succeeded or failed gives its program's own code, or 128 + signal.\n"
    )


@command("help", examples=("banksman help exit-codes", "banksman help run exec"))
@click.argument("topic", nargs=-1, metavar="[exit-codes|environment|formatting|COMMAND...]")
def help_command(inv: Invocation, topic: tuple[str, ...]) -> None:
    """Explain a command, or what no command explains."""
    texts = {"exit-codes": exit_codes(), "environment": ENVIRONMENT, "formatting": FORMATTING}
    if len(topic) == 1 and topic[0] in texts:
        click.echo(texts[topic[0]], nl=False)
        return
    ctx = click.get_current_context().find_root()
    found: click.Command = ctx.command
    for word in topic:
        inner = found.get_command(ctx, word) if isinstance(found, click.Group) else None
        if inner is None:
            raise CliError(f"there is no help on {' '.join(topic)!r}", next_command="banksman --help")
        ctx = click.Context(inner, info_name=word, parent=ctx)
        found = inner
    click.echo(found.get_help(ctx))
