"""The options of a schedule: when it fires, and what then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from control_plane.cli import contract
from control_plane.cli.commands import Seconds
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.spec_options import assign, set_duration
from control_plane.cli.times import parse_time
from control_plane.cli.variable_options import give_values

F = TypeVar("F", bound=Callable[..., Any])

OVERLAP = ("skip", "allow", "queue_one", "queue_all", "cancel_running")
CATCH_UP = ("skip", "one", "all")


def rule_options(function: F) -> F:
    """When it fires; collected into one `rule` mapping for `set_rule`."""
    for option in (
        click.option("--catch-up", type=click.Choice(CATCH_UP), help="For firings that were missed."),
        click.option("--overlap", type=click.Choice(OVERLAP), help="While an earlier run is active."),
        click.option("--tz", "--time-zone", "time_zone", metavar="ZONE", help="Of the cron line (default: UTC)."),
        click.option("--once", metavar="TIME", help="One time: 2h (from now), or a time."),
        click.option("--every", type=Seconds(), help="Period, e.g. 15m."),
        click.option("--cron", metavar="LINE", help='Five fields, e.g. "0 3 * * 1-5", or @daily.'),
    ):
        function = option(function)
    return function


def window_options(function: F) -> F:
    """From when to when it fires."""
    for option in (
        click.option("--end-at", metavar="TIME", help="Every instant lies before it: 30d (from now), or a time."),
        click.option("--start-at", metavar="TIME", help="No instant lies before it; --every counts from it."),
    ):
        function = option(function)
    return function


def policy_options(function: F) -> F:
    """The rest of a schedule; for `set_policies`, in the same mapping."""
    for option in (
        click.option("--var", multiple=True, metavar="NAME=VALUE", help="Value of a variable of the task; repeatable."),
        click.option("--no-var", is_flag=True, help="No values of its own."),
        click.option("--pause-after", type=click.IntRange(0, 100), help="Failures in a row that pause it; 0: never."),
        click.option("--max-catch-up", type=click.IntRange(1, 100), help="With --catch-up all: how many at most."),
        click.option("--jitter", type=Seconds(), help="Fire later by a part of this, always the same; 0 for none."),
        click.option("--no-end", is_flag=True, help="No end any more."),
        click.option("--no-start", is_flag=True, help="No start any more."),
    ):
        function = option(function)
    return window_options(function)


def set_rule(inv: Invocation, schedule: contract.schedule_pb2.Schedule, rule: dict[str, Any]) -> list[str]:
    """Put what was given into the schedule; the names of the fields that it changed."""
    given = [name for name in ("cron", "every", "once") if rule[name] is not None]
    if len(given) > 1:
        raise CliError("give only one of --cron, --every and --once")
    if rule["cron"] is not None:
        assign(schedule, "cron", rule["cron"])
    if rule["every"] is not None:
        set_duration(schedule.every, rule["every"])
    if rule["once"] is not None:
        schedule.once.FromDatetime(parse_time(rule["once"], inv.clock.now(), ahead=True))
    if rule["time_zone"] is not None:
        assign(schedule, "time_zone", rule["time_zone"])
        given.append("time_zone")
    if rule["overlap"] is not None:
        schedule.overlap = contract.schedule_pb2.OverlapPolicy.Value(f"OVERLAP_POLICY_{rule['overlap'].upper()}")
        given.append("overlap")
    if rule["catch_up"] is not None:
        schedule.catch_up = contract.schedule_pb2.CatchUpPolicy.Value(f"CATCH_UP_POLICY_{rule['catch_up'].upper()}")
        given.append("catch_up")
    return given


def set_window(inv: Invocation, schedule: contract.schedule_pb2.Schedule, rule: dict[str, Any]) -> list[str]:
    """The same for its start and its end."""
    given = []
    for name in ("start_at", "end_at"):
        if rule[name] is not None:
            getattr(schedule, name).FromDatetime(parse_time(rule[name], inv.clock.now(), ahead=True))
            given.append(name)
    return given


def set_policies(inv: Invocation, schedule: contract.schedule_pb2.Schedule, rule: dict[str, Any]) -> list[str]:
    """The same for the rest."""
    given = set_window(inv, schedule, rule)
    for word, clear in (
        ("start", partial(schedule.ClearField, "start_at")),
        ("end", partial(schedule.ClearField, "end_at")),
    ):
        if rule[f"no_{word}"]:
            if f"{word}_at" in given:
                raise CliError(f"give either --{word}-at or --no-{word}")
            clear()
            given.append(f"{word}_at")
    if rule["jitter"] is not None:
        set_duration(schedule.jitter, rule["jitter"])
        given.append("jitter")
    for option, field in (("max_catch_up", "max_catch_up"), ("pause_after", "pause_after_failures")):
        if rule[option] is not None:
            assign(schedule, field, rule[option])
            given.append(field)
    if rule["var"] and rule["no_var"]:
        raise CliError("give either --var or --no-var")
    if rule["no_var"]:
        schedule.variables.clear()
    give_values(schedule.variables, rule["var"])
    return [*given, "variables"] if rule["var"] or rule["no_var"] else given
