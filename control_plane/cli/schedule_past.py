"""A schedule's past: what became of its instants, and those that are made up for by hand."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_schedules
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import Column, State, View, iso, to_datetime, when
from control_plane.cli.times import parse_time
from control_plane.cli.words import enum_word

FIRING = View(
    columns=(
        Column("TIME", lambda firing: iso(to_datetime(firing.scheduled_time))),
        Column("ORIGIN", lambda firing: enum_word(firing, "origin").lower()),
        Column("RUN", lambda firing: firing.run_id),
        Column("STATE", lambda firing: State(enum_word(firing, "run_state") if firing.run_state else "")),
        Column("WHY", lambda firing: enum_word(firing, "run_reason") if firing.run_reason else ""),
        Column("MISSED", lambda firing: str(firing.missed or "")),
        Column("AT", lambda firing: when(firing, "created_at")),
    ),
    lines=(),
    name=lambda firing: iso(to_datetime(firing.scheduled_time)),
)


@command("firings", examples=("banksman schedule firings nightly --limit 20",))
@click.argument("schedule", shell_complete=complete_schedules)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
def firings(inv: Invocation, schedule: str, limit: int) -> None:
    """List what became of a schedule's instants, the latest first.

    MISSED counts the instants from that time on that nobody was there to fire and that were not made up for.
    """
    request = contract.schedule_pb2.ListFiringsRequest(project=inv.project, schedule=schedule)
    found = inv.client.pages(inv.client.schedules.ListFirings, request, lambda page: page.firings, limit=limit)
    inv.printer.rows(found, FIRING)


@command(
    "backfill",
    examples=(
        "banksman schedule backfill nightly --from 7d --dry-run",
        "banksman schedule backfill nightly --from 2026-03-01T00:00Z --to 2026-03-08T00:00Z",
    ),
)
@click.argument("schedule", shell_complete=complete_schedules)
@click.option("--from", "start", required=True, metavar="TIME", help="Instants from here on: 7d (ago), or a time.")
@click.option("--to", "end", metavar="TIME", help="And before this (default: now).")
@click.option(
    "--overlap",
    type=click.Choice(["queue_all", "allow"]),
    default="queue_all",
    show_default=True,
    help="One after another, or side by side.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would fire.")
def backfill(inv: Invocation, schedule: str, start: str, end: str | None, overlap: str, dry_run: bool) -> None:
    """Fire the instants of a range in the past that have not fired.

    An instant that fired before, by whatever means, makes nothing, so that the same command may be given again. At
    most 1,000 instants fire at once.
    """
    now = inv.clock.now()
    request = contract.schedule_pb2.BackfillScheduleRequest(project=inv.project, schedule=schedule, dry_run=dry_run)
    request.overlap = contract.schedule_pb2.OverlapPolicy.Value(f"OVERLAP_POLICY_{overlap.upper()}")
    request.start_at.FromDatetime(parse_time(start, now))
    if end is not None:
        request.end_at.FromDatetime(parse_time(end, now))
    done = inv.client.call(inv.client.schedules.BackfillSchedule, request, repeatable=True)
    verb = "would fire" if dry_run else "fired"
    inv.say(f"{len(done.scheduled_times)} {verb}, {done.fired_before} had fired before")
    if inv.printer.form in ("json", "yaml", "jsonl"):
        inv.printer.one(done, BACKFILLED)
    else:
        for at in done.scheduled_times if dry_run else ():
            inv.printer.write(iso(to_datetime(at)))
        for run_id in done.run_ids:
            inv.printer.write(run_id)


BACKFILLED = View(columns=(), lines=(), name=lambda done: "")
