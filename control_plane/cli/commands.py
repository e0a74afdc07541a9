"""How commands are declared: lazily loaded groups, and the options that every command takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

import click

from control_plane.cli.completing import complete_contexts, complete_projects
from control_plane.cli.durations import parse_duration
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import FORMATS, Invocation, invocation

if TYPE_CHECKING:
    FloatType = click.ParamType[float]
else:
    FloatType = click.ParamType

Tree = Mapping[str, Union[str, "Noun"]]
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL")
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Seconds(FloatType):
    """A duration, converted to float seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class SignalName(click.Choice[str]):
    """A signal with or without SIG before it, in any case: SIGTERM, term."""

    def __init__(self) -> None:
        super().__init__(SIGNALS, case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).upper()
        full = text if text.startswith("SIG") else f"SIG{text}"
        return str(super().convert(full if full in SIGNALS else value, param, ctx))


def remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Keep a shared option's value; the one nearest to the command wins."""
    if value is not None and param.name:
        invocation(ctx).flags[param.name] = value


def shared_options() -> list[click.Parameter]:
    """The options that every command takes."""

    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=remember, default=None, **settings)

    return [
        option("-o", "--output", type=click.Choice(FORMATS), help="How to print data (default: table)."),
        option("--project", metavar="NAME", help="Project to work in.", shell_complete=complete_projects),
        option("--context", metavar="NAME", help="Stored context to use.", shell_complete=complete_contexts),
        option("--url", metavar="URL", help="Control plane, e.g. http://127.0.0.1:7070."),
        option("--token", metavar="TOKEN", help="API token; BANKSMAN_TOKEN keeps it out of the process list."),
        option("--insecure", is_flag=True, help="Allow plaintext to another host."),
        option("--rpc-timeout", type=Seconds(), help="Longest time for one call (default: 30s)."),
        option("--debug", is_flag=True, help="Show the status behind an error."),
    ]


def sections(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Print a command's own options first, the shared ones behind them."""
    own: list[tuple[str, str]] = []
    shared: list[tuple[str, str]] = []
    for param in command.get_params(ctx):
        if isinstance(param, click.Argument):
            continue  # the usage line has named it
        record = param.get_help_record(ctx)
        if record is not None:
            (shared if getattr(param, "callback", None) is remember else own).append(record)
    for title, records in (("Options", own), ("Global options", shared)):
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class Leaf(click.Command):
    """A command that does something."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.context_settings = {**SETTINGS, **self.context_settings}
        self.params += shared_options()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections(self, ctx, formatter)


class Noun:
    """A group in the table of commands: its help line and its verbs, each as "module:attribute"."""

    def __init__(self, help_line: str, **verbs: str | Noun) -> None:
        self.help_line = help_line
        self.verbs = {name.replace("_", "-"): target for name, target in verbs.items()}


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is looked up."""

    def __init__(self, name: str, help_line: str, tree: Tree) -> None:
        super().__init__(name=name, help=help_line, params=shared_options(), context_settings=dict(SETTINGS))
        self.tree = tree

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.tree)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = self.tree.get(cmd_name)
        match target:
            case None:
                return None
            case Noun():
                return LazyGroup(cmd_name, target.help_line, target.verbs)
            case str():
                module, _, attribute = target.partition(":")
                command: click.Command = getattr(importlib.import_module(f"control_plane.cli.{module}"), attribute)
                return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with a suggestion; click's own looks among commands that are loaded already."""
        if not ctx.resilient_parsing and args[0] not in self.tree and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], self.tree)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {' or '.join(close)}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        sections(self, ctx, formatter)


def command(name: str, *, examples: Sequence[str] = (), **settings: Any) -> Callable[[Callable[..., Any]], Leaf]:
    """Declare a command; its function takes the Invocation first. Returns the click command."""

    def declare(function: Callable[..., Any]) -> Leaf:
        def run(*args: Any, **kwargs: Any) -> Any:
            return function(invocation(click.get_current_context()), *args, **kwargs)

        run.__doc__ = function.__doc__
        run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples) if examples else None
        return click.command(name, cls=Leaf, epilog=epilog, **settings)(run)

    return declare


def key_values(pairs: Sequence[str], what: str) -> dict[str, str]:
    """k=v pairs as a mapping. Raises CliError that names the pair without "="."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise CliError(f"{what} {pair!r} is not KEY=VALUE")
        found[key] = value
    return found


def confirm(inv: Invocation, question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone, on a terminal only; --yes answers beforehand."""
    import sys

    if not yes and sys.stdin.isatty() and sys.stderr.isatty() and not click.confirm(question, err=True):
        raise CliError("nothing was done", exit_code=130, wanted=True)


yes_option = click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
