"""List runs."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_tasks
from control_plane.cli.invocation import Invocation
from control_plane.cli.spec_options import assign
from control_plane.cli.times import parse_time
from control_plane.cli.views import RUN

NEWEST = 20
STATES = (
    "queued",
    "assigned",
    "running",
    "cancelling",
    "succeeded",
    "failed",
    "timed_out",
    "lost",
    "cancelled",
    "expired",
    "skipped",
)
ACTIVE = STATES[:4]


@command("list", examples=("banksman run list --state failed --since 2h", "banksman run list --task build -o jsonl"))
@click.option("--state", multiple=True, type=click.Choice([*STATES, "active"], False), help="Only these; repeatable.")
@click.option("--task", metavar="NAME", help="Runs of this task.", shell_complete=complete_tasks)
@click.option("--since", metavar="TIME", help="Created after: 2h (ago), or a time.")
@click.option("--filter", "text", default="", metavar="FILTER", help="Such as: tag : nightly AND runner = host1.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=NEWEST, show_default=True, help="At most so many.")
def list_runs(
    inv: Invocation, state: tuple[str, ...], task: str | None, since: str | None, text: str, limit: int
) -> None:
    """List the project's newest runs."""
    wanted = [name for word in state for name in (ACTIVE if word == "active" else (word,))]
    request = contract.run_pb2.ListRunsRequest(
        project=inv.project,
        task=task or "",
        states=[contract.run_pb2.RunState.Value(f"RUN_STATE_{word.upper()}") for word in dict.fromkeys(wanted)],
    )
    assign(request, "filter", text)
    if since is not None:
        request.created_after.FromDatetime(parse_time(since, inv.clock.now()))
    found = inv.client.pages(inv.client.runs.ListRuns, request, lambda page: page.runs, limit=limit)
    inv.printer.rows(found, RUN)
