"""Delete runs that are over, and cancel those that a filter matches."""

from __future__ import annotations

import sys

import click

from control_plane.cli import contract
from control_plane.cli.commands import command, confirm, yes_option
from control_plane.cli.completing import complete_runs
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import counted
from control_plane.cli.words import short_id


@command("delete", examples=("banksman run delete 1a2b3c4d --yes",))
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_runs)
@yes_option
def delete(inv: Invocation, runs: tuple[str, ...], yes: bool) -> None:
    """Delete runs that are over, with their logs and results.

    What made them stays used: no schedule fires again, and no request id makes another run.
    """
    confirm(inv, f"Delete {counted(len(runs), 'run')} with all that was left?", yes=yes)
    for run in runs:
        found = inv.client.call(
            inv.client.runs.GetRun, contract.run_pb2.GetRunRequest(run=run, project=inv.project), repeatable=True
        )
        request = contract.run_pb2.DeleteRunRequest(run=found.id, project=inv.project)
        inv.client.call(inv.client.runs.DeleteRun, request, repeatable=False)
        inv.say(f"deleted run {short_id(found.id)}")


def cancel_matching(inv: Invocation, request: contract.run_pb2.CancelRunsRequest, *, yes: bool) -> int:
    """Count, ask, then cancel exactly as many as were counted."""
    request.dry_run = True
    count = inv.client.call(inv.client.runs.CancelRuns, request, repeatable=True).matched_count
    if count == 0:
        inv.say("no active run matches")
        return ExitCode.OK
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CliError(f"{counted(count, 'active run')} found; nothing was cancelled: say --yes to cancel")
    confirm(inv, f"Cancel {counted(count, 'active run')}?", yes=yes)
    request.dry_run = False
    request.expected_count = count
    done = inv.client.call(inv.client.runs.CancelRuns, request, repeatable=False)
    inv.say(f"cancelled {done.cancelled_count} of {counted(done.matched_count, 'run')}")
    return ExitCode.OK
