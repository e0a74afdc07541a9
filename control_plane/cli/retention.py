"""What is kept, and what goes: pins, and the removal of what is old."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_runs
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import Column, View, counted
from control_plane.cli.status import human_bytes
from control_plane.cli.words import short_id

GARBAGE = View(
    columns=(
        Column("PROJECT", lambda garbage: garbage.project),
        Column("RUNS", lambda garbage: str(garbage.runs)),
        Column("LOGS", lambda garbage: str(garbage.logs)),
        Column("BYTES", lambda garbage: str(garbage.log_bytes)),
        Column("FILES", lambda garbage: str(garbage.artifacts)),
        Column("FILE BYTES", lambda garbage: str(garbage.artifact_bytes)),
        Column("MORE", lambda garbage: "yes" if garbage.more else ""),
    ),
    name=lambda garbage: str(garbage.project),
)


@command("pin", examples=("banksman run pin 1a2b3c4d",))
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
def pin(inv: Invocation, run: str) -> None:
    """Keep a run, with its log and artifacts, whatever its age."""
    request = contract.run_pb2.PinRunRequest(run=run, project=inv.project)
    found = inv.client.call(inv.client.runs.PinRun, request, repeatable=True)
    inv.say(f"pinned run {short_id(found.id)}")


@command("unpin", examples=("banksman run unpin 1a2b3c4d",))
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
def unpin(inv: Invocation, run: str) -> None:
    """Keep a run no longer than its project wants."""
    request = contract.run_pb2.UnpinRunRequest(run=run, project=inv.project)
    found = inv.client.call(inv.client.runs.UnpinRun, request, repeatable=True)
    inv.say(f"unpinned run {short_id(found.id)}")


@command("gc", examples=("banksman system gc --dry-run", "banksman system gc"))
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def collect(inv: Invocation, dry_run: bool) -> None:
    """Remove now what projects no longer want to keep. For admins; the server does so every ten minutes."""
    request = contract.system_pb2.CollectGarbageRequest(dry_run=dry_run)
    found = inv.client.call(inv.client.system.CollectGarbage, request, repeatable=True)
    inv.printer.rows(iter(found.garbage), GARBAGE)
    runs, logs = sum(each.runs for each in found.garbage), sum(each.logs for each in found.garbage)
    files = sum(each.artifacts for each in found.garbage)
    size = human_bytes(sum(each.log_bytes + each.artifact_bytes for each in found.garbage))
    what = f"{counted(runs, 'run')}, {counted(logs, 'log')} and {counted(files, 'artifact')}, {size}"
    inv.say(f"would remove {what}" if dry_run else f"removed {what}")
