"""Cancel runs, and wait for them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from control_plane.cli import contract
from control_plane.cli.commands import Seconds, SignalName, command, yes_option
from control_plane.cli.completing import complete_runs
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode, of_run
from control_plane.cli.following import end_line
from control_plane.cli.invocation import Invocation
from control_plane.cli.run_delete import cancel_matching
from control_plane.cli.views import RUN
from control_plane.cli.waiting import reached, wait_for_run
from control_plane.cli.words import enum_word, short_id, state_word


@command("wait", examples=("banksman run wait @last", "banksman run wait 1a2b3c4d --for settled --wait-timeout 10m"))
@click.argument("run", shell_complete=complete_runs)
@click.option(
    "--for", "goal", type=click.Choice(["finished", "settled"]), default="finished", help="settled: with its whole log."
)
@click.option("--wait-timeout", type=Seconds(), help="Give up after this time, with exit code 124.")
@click.option("--propagate-exit-code", is_flag=True, help="End with the program's own exit code.")
def wait(inv: Invocation, run: str, goal: str, wait_timeout: float | None, propagate_exit_code: bool) -> int:
    """Wait until a run has ended; its state is the exit code."""
    settled = goal == "settled"
    found = wait_for_run(inv.client, run, inv.project, settled=settled, timeout_s=wait_timeout)
    if not reached(found, settled=settled):
        raise timed_out(found)
    if inv.output != "table":
        inv.printer.one(found, RUN)
    inv.say(end_line(found))
    return of_run(found, propagate=propagate_exit_code)


@command(
    "cancel",
    examples=(
        "banksman run cancel @last",
        "banksman run cancel 1a2b3c4d --grace 0s --note 'wrong branch'",
        "banksman run cancel --filter 'task = build AND state = QUEUED' --yes",
    ),
)
@click.argument("runs", nargs=-1, metavar="RUN...", shell_complete=complete_runs)
@click.option("--filter", "text", metavar="FILTER", help="Instead of RUN: all active runs that match, after a count.")
@yes_option
@click.option("--note", default="", help="Why; kept with the run.")
@click.option("--grace", type=Seconds(), help="From the signal to the kill.")
@click.option("--signal", type=SignalName(), help="First signal.")
@click.option("--force", is_flag=True, help="End the run at once, also if its runner does not answer.")
@click.option("--no-wait", is_flag=True, help="Do not wait for its end.")
@click.option("--wait-timeout", type=Seconds(), help="Wait no longer than this, then end with 124.")
def cancel(
    inv: Invocation,
    runs: tuple[str, ...],
    text: str | None,
    yes: bool,
    note: str,
    grace: float | None,
    signal: str | None,
    force: bool,
    no_wait: bool,
    wait_timeout: float | None,
) -> int:
    """Cancel runs, wait for their end, and say if it is proven.

    The proof comes from the kernel of the runner's host: no process of the run is left.
    """
    if (text is None) == (not runs):
        raise CliError("give runs, or --filter")
    how: dict[str, Any] = {"project": inv.project, "note": note, "signal": signal or "", "force": force}
    if grace is not None:
        how["grace"] = timedelta(seconds=grace)
    if text is not None:
        return cancel_matching(inv, contract.run_pb2.CancelRunsRequest(filter=text, **how), yes=yes)
    requested, refused = _ask(inv, [contract.run_pb2.CancelRunRequest(run=run, **how) for run in runs])
    for found in requested:
        if not no_wait and found.is_active:
            found = wait_for_run(inv.client, found.id, found.project_id, timeout_s=wait_timeout, patient=True)
            if found.is_active:
                raise timed_out(found)
        if inv.output != "table":
            inv.printer.one(found, RUN)
        inv.say(f"run {short_id(found.id)} is {proof(found)}")
    for other in refused[1:]:
        inv.say(f"error: {other.message}")
    if refused:
        raise refused[0]
    return ExitCode.OK


def _ask(
    inv: Invocation, requests: list[contract.run_pb2.CancelRunRequest]
) -> tuple[list[contract.run_pb2.Run], list[CliError]]:
    """What was cancelled, and what was not."""
    requested, refused = [], []
    for request in requests:
        try:
            requested.append(inv.client.call(inv.client.runs.CancelRun, request, repeatable=True))
        except CliError as error:
            refused.append(error)
    return requested, refused


def proof(run: contract.run_pb2.Run) -> str:
    """The state, and what is known about its processes."""
    word = state_word(run)
    if run.is_active:
        return f"{word}; its end was not waited for"
    if not any(state_word(attempt) not in ("OFFERED", "REJECTED") for attempt in run.attempts):
        return f"{word}; it never started"
    if run.kill_confirmed:
        return f"{word}; kill confirmed: no process of it is left, the kernel of its host said so"
    unproven = f"{word}; kill NOT confirmed: its host has not yet proven that no process of it is left"
    if any(enum_word(attempt, "reason") == "FORCED" for attempt in run.attempts):
        return f"{unproven}; its slot there is free only when the host has ended it and no longer lists it"
    return unproven


def timed_out(run: contract.run_pb2.Run) -> CliError:
    return CliError(
        f"--wait-timeout has passed; run {short_id(run.id)} is {state_word(run)}",
        exit_code=ExitCode.WAIT_TIMED_OUT,
        next_command=f"banksman run get {short_id(run.id)}",
    )
