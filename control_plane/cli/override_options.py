"""What one run of a task is to do otherwise, on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from control_plane.cli import contract
from control_plane.cli.commands import Seconds, key_values
from control_plane.cli.completing import complete_runners
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.spec_options import assign, set_duration

F = TypeVar("F", bound=Callable[..., Any])

_TIMES = ("timeout", "idle_timeout", "start_timeout", "queue_timeout", "grace")
_OPTIONS = (
    click.option("--timeout", type=Seconds(), help="Instead of the task's, if it allows that; so are those below."),
    click.option("--idle-timeout", type=Seconds(), help="Stop it after so long a silence."),
    click.option("--start-timeout", type=Seconds(), help="Longest time from the assignment to its start."),
    click.option("--queue-timeout", type=Seconds(), help="Give up when it waited for so long."),
    click.option("--grace", type=Seconds(), help="From the stop signal to the kill."),
    click.option("-e", "--env", multiple=True, metavar="K[=V]", help="Environment variable; K alone copies your own."),
    click.option("--label", multiple=True, metavar="K=V", help="Run only where the runner has this label."),
    click.option("--runner", metavar="NAME", help="Run only on this runner.", shell_complete=complete_runners),
    click.option("--slots", type=int, metavar="N", help="Slots that it takes on its runner."),
    click.option("--retry", type=int, metavar="N", help="Try again up to N times when it fails."),
    click.option("--on-lost", type=click.Choice(["fail", "retry"]), help="If its runner falls silent."),
    click.option("--cwd", metavar="DIR", help="Working directory; relative to the run's workspace."),
)
NAMES = (*_TIMES, "env", "label", "runner", "slots", "retry", "on_lost", "cwd")


def override_options(function: F) -> F:
    """Add the options; they come as keyword arguments named in NAMES."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def override(inv: Invocation, options: contract.run_pb2.RunOptions, given: dict[str, Any]) -> None:
    """Put what was given into a run's options; nothing if nothing was."""
    made = contract.run_pb2.RunOverrides()
    for name in _TIMES:
        if given[name] is not None:
            set_duration(getattr(made, name), given[name])
    for pair in given["env"]:
        name, equals, value = pair.partition("=")
        if not equals and name not in inv.environ:
            raise CliError(f"-e {name}: your environment has no such variable; write -e {name}=VALUE")
        variable = made.env.add()
        assign(variable, "name", name)
        assign(variable, "value", value if equals else inv.environ[name])
    for key, value in key_values(given["label"], "--label").items():
        made.selectors.add(key=key, operator=contract.spec_pb2.SELECTOR_OPERATOR_IN, values=[value])
    for name, field in (("runner", "runner"), ("slots", "slots"), ("cwd", "working_directory")):
        if given[name] is not None:
            assign(made, field, given[name])
    if given["retry"] is not None:
        assign(made.retry, "max_attempts", given["retry"] + 1)
    if given["on_lost"] is not None:
        made.loss.on_lost = contract.spec_pb2.OnLost.Value(f"ON_LOST_{given['on_lost'].upper()}")
    if made != contract.run_pb2.RunOverrides():
        options.overrides.CopyFrom(made)
