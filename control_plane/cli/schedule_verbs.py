"""What is done to schedules: pause, resume, fire now, look ahead."""

from __future__ import annotations

import datetime
from typing import Any

import click

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_schedules
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import When, iso, json_text, to_datetime, yaml_text
from control_plane.cli.run_exec import follow_option, propagate_option, started, wait_option
from control_plane.cli.schedule_options import rule_options, set_rule, set_window, window_options
from control_plane.cli.schedules import show

CRON_FIELDS = 5


@command("pause", examples=("banksman schedule pause nightly --note 'release week'",))
@click.argument("schedule", shell_complete=complete_schedules)
@click.option("--note", default="", help="Why.")
def pause(inv: Invocation, schedule: str, note: str) -> None:
    """Keep a schedule from firing."""
    request = contract.schedule_pb2.PauseScheduleRequest(project=inv.project, schedule=schedule, note=note)
    show(inv, inv.client.call(inv.client.schedules.PauseSchedule, request, repeatable=True), "paused")


@command("resume", examples=("banksman schedule resume nightly",))
@click.argument("schedule", shell_complete=complete_schedules)
def resume(inv: Invocation, schedule: str) -> None:
    """Let a paused schedule fire again."""
    request = contract.schedule_pb2.ResumeScheduleRequest(project=inv.project, schedule=schedule)
    show(inv, inv.client.call(inv.client.schedules.ResumeSchedule, request, repeatable=True), "resumed")


@command("trigger", examples=("banksman schedule trigger nightly --follow",))
@click.argument("schedule", shell_complete=complete_schedules)
@propagate_option
@wait_option
@follow_option
def trigger(inv: Invocation, schedule: str, follow: bool, wait_timeout: float | None, propagate_exit_code: bool) -> int:
    """Fire a schedule now, beside its times."""
    request = contract.schedule_pb2.TriggerScheduleRequest(
        project=inv.project, schedule=schedule, request_id=new_request_id()
    )
    run = inv.client.call(inv.client.schedules.TriggerSchedule, request, repeatable=True)
    return started(inv, run, follow=follow, wait_timeout_s=wait_timeout, propagate=propagate_exit_code)


@command(
    "next",
    examples=("banksman schedule next nightly", "banksman schedule next '0 3 * * 1' --tz Europe/Berlin"),
)
@click.argument("schedule", required=False, metavar="[SCHEDULE|LINE]", shell_complete=complete_schedules)
@click.option("--count", type=click.IntRange(1, 100), default=10, show_default=True, help="How many.")
@window_options
@rule_options
def next_times(inv: Invocation, schedule: str | None, count: int, **rule: Any) -> None:
    """Print the next times of a schedule or a rule.

    A rule needs no schedule: a cron line, --every or --once describe it. A word with spaces in it, or one that begins
    with @, is taken as a cron line.
    """
    request = contract.schedule_pb2.PreviewScheduleRequest(project=inv.project, count=count)
    if schedule is not None and rule["cron"] is None and is_cron_line(schedule):
        schedule, rule["cron"] = None, schedule
    if schedule is not None:
        if any(value is not None for value in rule.values()):
            raise CliError("give either a schedule or a rule, not both")
        request.schedule = schedule
    elif not {"cron", "every", "once"} & set(set_rule(inv, request.draft, rule)):
        raise CliError("name a schedule, or give a cron line, --every or --once")
    else:
        set_window(inv, request.draft, rule)
    preview = inv.client.call(inv.client.schedules.PreviewSchedule, request, repeatable=True)
    times = [to_datetime(stamp) for stamp in preview.fire_times]
    printer = inv.printer
    match printer.form:
        case "json":
            printer.write(json_text([iso(at) for at in times], indent=2))
        case "yaml":
            printer.write(yaml_text([iso(at) for at in times]).rstrip("\n"))
        case "jsonl":
            for at in times:
                printer.write(json_text(iso(at)))
        case "name":
            for at in times:
                printer.write(iso(at))
        case _:
            local = preview.local_times or [local_time(at, preview.time_zone) for at in times]
            printer.table(["TIME", "WHEN"], [[text, When(at)] for text, at in zip(local, times, strict=True)])


def is_cron_line(text: str) -> bool:
    """Five fields are more than a name would usually hold, and no name that has been seen begins with @."""
    return text.startswith("@") or len(text.split()) == CRON_FIELDS


def local_time(at: datetime.datetime, zone: str) -> str:
    """The time in the schedule's own zone; in UTC when this machine does not know it."""
    import zoneinfo

    try:
        return at.astimezone(zoneinfo.ZoneInfo(zone or "UTC")).isoformat(timespec="seconds")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return iso(at)
