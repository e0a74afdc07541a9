"""Schedules: when a task runs."""

from __future__ import annotations

from typing import Any

import click

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import command, confirm, yes_option
from control_plane.cli.completing import complete_schedules, complete_tasks
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.people import name_maker
from control_plane.cli.schedule_options import policy_options, rule_options, set_policies, set_rule
from control_plane.cli.spec_options import assign
from control_plane.cli.views import SCHEDULE


@command(
    "create",
    examples=(
        "banksman schedule create nightly --task build --cron '0 3 * * *' --tz Europe/Berlin",
        "banksman schedule create poll --task check --every 15m --jitter 1m --pause-after 3",
        "banksman schedule create report --task build --cron @daily --overlap queue_all --var stage=test",
    ),
)
@click.argument("name")
@click.option("--task", required=True, metavar="NAME", help="What to run.", shell_complete=complete_tasks)
@click.option("--paused", is_flag=True, help="Not to fire yet.")
@policy_options
@rule_options
def create(inv: Invocation, name: str, task: str, paused: bool, **rule: Any) -> None:
    """Run a task at times."""
    schedule = contract.schedule_pb2.Schedule(paused=paused)
    assign(schedule, "name", name)
    assign(schedule, "task_id", task)
    if not {"cron", "every", "once"} & set(set_rule(inv, schedule, rule)):
        raise CliError("say when: --cron, --every or --once")
    set_policies(inv, schedule, rule)
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


@command(
    "update",
    examples=(
        "banksman schedule update nightly --cron '30 2 * * *'",
        "banksman schedule update nightly --overlap cancel_running --pause-after 3 --no-end",
    ),
)
@click.argument("schedule", shell_complete=complete_schedules)
@click.option("--name", metavar="NAME", help="New name.")
@policy_options
@rule_options
def update(inv: Invocation, schedule: str, name: str | None, **rule: Any) -> None:
    """Change a schedule; what is not given stays. Refused when somebody else changed it meanwhile."""
    fresh = fetch(inv, schedule)
    mask = [*set_rule(inv, fresh, rule), *set_policies(inv, fresh, rule)]
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
