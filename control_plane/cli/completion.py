"""Print the script that teaches a shell to complete banksman's commands and their values."""

from __future__ import annotations

import click

from control_plane.cli.commands import command
from control_plane.cli.invocation import Invocation


@command(
    "completion",
    examples=(
        'eval "$(banksman completion bash)"',
        'eval "$(banksman completion zsh)"',
        "banksman completion fish > ~/.config/fish/completions/banksman.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(inv: Invocation, shell: str) -> None:
    """Print a shell's completion script.

    Values such as run ids and task names are completed too.
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    # The template is filled in here, because click's source() starts a bash only to look at its version.
    completer = found(root, {}, "banksman", "_BANKSMAN_COMPLETE")
    click.echo(completer.source_template % completer.source_vars())
