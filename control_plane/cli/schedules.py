"""Schedules: when a task runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import Seconds, command, confirm, yes_option
from control_plane.cli.completing import complete_schedules, complete_tasks
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.people import name_maker
from control_plane.cli.spec_options import assign, set_duration
from control_plane.cli.times import parse_time
from control_plane.cli.views import SCHEDULE

F = TypeVar("F", bound=Callable[..., Any])


def rule_options(function: F) -> F:
    """When it fires; collected into one `rule` mapping by `set_rule`."""
    for option in (
        click.option("--catch-up", type=click.Choice(["skip", "one"]), help="For firings that were missed."),
        click.option("--overlap", type=click.Choice(["skip", "allow"]), help="While an earlier run is active."),
        click.option("--tz", "--time-zone", "time_zone", metavar="ZONE", help="Of the cron line (default: UTC)."),
        click.option("--once", metavar="TIME", help="One time: 2h (from now), or a time."),
        click.option("--every", type=Seconds(), help="Period, e.g. 15m."),
        click.option("--cron", metavar="LINE", help='Five fields, e.g. "0 3 * * 1-5", or @daily.'),
    ):
        function = option(function)
    return function


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


@command(
    "create",
    examples=(
        "banksman schedule create nightly --task build --cron '0 3 * * *' --tz Europe/Berlin",
        "banksman schedule create poll --task check --every 15m",
    ),
)
@click.argument("name")
@click.option("--task", required=True, metavar="NAME", help="What to run.", shell_complete=complete_tasks)
@click.option("--paused", is_flag=True, help="Not to fire yet.")
@rule_options
def create(inv: Invocation, name: str, task: str, paused: bool, **rule: Any) -> None:
    """Run a task at times."""
    schedule = contract.schedule_pb2.Schedule(paused=paused)
    assign(schedule, "name", name)
    assign(schedule, "task_id", task)
    if not {"cron", "every", "once"} & set(set_rule(inv, schedule, rule)):
        raise CliError("say when: --cron, --every or --once")
    request = contract.schedule_pb2.CreateScheduleRequest(
        project=inv.project, schedule=schedule, request_id=new_request_id()
    )
    created = inv.client.call(inv.client.schedules.CreateSchedule, request, repeatable=True)
    show(inv, created, "created")


def show(inv: Invocation, schedule: contract.schedule_pb2.Schedule, what: str) -> None:
    """Say what became of it; the schedule itself where it was asked for."""
    inv.say(f"{what} schedule {schedule.name}")
    if inv.output != "table":
        inv.printer.one(schedule, SCHEDULE)
    elif what == "created":
        inv.printer.write(schedule.id)


@command("list", examples=("banksman schedule list", "banksman schedule list --task build"))
@click.option("--task", metavar="NAME", default="", help="Of this task.", shell_complete=complete_tasks)
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_schedules(inv: Invocation, task: str, limit: int | None) -> None:
    """List the project's schedules."""
    request = contract.schedule_pb2.ListSchedulesRequest(project=inv.project, task=task)
    found = inv.client.pages(inv.client.schedules.ListSchedules, request, lambda page: page.schedules, limit=limit)
    inv.printer.rows(found, SCHEDULE)


def fetch(inv: Invocation, name: str) -> contract.schedule_pb2.Schedule:
    request = contract.schedule_pb2.GetScheduleRequest(project=inv.project, schedule=name)
    return inv.client.call(inv.client.schedules.GetSchedule, request, repeatable=True)


@command("get", examples=("banksman schedule get nightly",))
@click.argument("schedule", shell_complete=complete_schedules)
def get(inv: Invocation, schedule: str) -> None:
    """Show a schedule."""
    found = fetch(inv, schedule)
    name_maker(inv, found)
    inv.printer.one(found, SCHEDULE)


@command("update", examples=("banksman schedule update nightly --cron '30 2 * * *'",))
@click.argument("schedule", shell_complete=complete_schedules)
@click.option("--name", metavar="NAME", help="New name.")
@rule_options
def update(inv: Invocation, schedule: str, name: str | None, **rule: Any) -> None:
    """Change a schedule; what is not given stays. Refused when somebody else changed it meanwhile."""
    fresh = fetch(inv, schedule)
    mask = set_rule(inv, fresh, rule)
    if name is not None:
        assign(fresh, "name", name)
        mask.append("name")
    if not mask:
        raise CliError("nothing to change was given", next_command="banksman schedule update --help")
    request = contract.schedule_pb2.UpdateScheduleRequest(project=inv.project, schedule=fresh)
    request.update_mask.paths.extend(sorted(mask))
    show(inv, inv.client.call(inv.client.schedules.UpdateSchedule, request, repeatable=False), "updated")


@command("delete", examples=("banksman schedule delete nightly --yes",))
@click.argument("schedule", shell_complete=complete_schedules)
@yes_option
def delete(inv: Invocation, schedule: str, yes: bool) -> None:
    """Delete a schedule; its runs stay."""
    confirm(inv, f"Delete schedule {schedule}?", yes=yes)
    request = contract.schedule_pb2.DeleteScheduleRequest(project=inv.project, schedule=schedule)
    inv.client.call(inv.client.schedules.DeleteSchedule, request, repeatable=False)
    inv.say(f"deleted schedule {schedule}")
