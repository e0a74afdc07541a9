"""Runners: the build hosts that are enrolled."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command, confirm, yes_option
from control_plane.cli.completing import complete_runners
from control_plane.cli.invocation import Invocation
from control_plane.cli.runner_view import MARKED, RUNNER, disk_lines
from control_plane.cli.words import short_id

# Of the runs that a question is about.
NAMED = 5


@command("list", examples=("banksman runner list", "banksman runner list --all -o json"))
@click.option("--all", "everything", is_flag=True, help="Revoked ones too.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_runners(inv: Invocation, everything: bool, limit: int | None) -> None:
    """List the runners."""
    request = contract.runner_pb2.ListRunnersRequest(include_revoked=everything)
    found = inv.client.pages(inv.client.runners.ListRunners, request, lambda page: page.runners, limit=limit)
    inv.printer.rows(found, RUNNER)


@command("get", examples=("banksman runner get build-1",))
@click.argument("runner", shell_complete=complete_runners)
def get(inv: Invocation, runner: str) -> None:
    """Show a runner, what it has on its disk, and its warnings."""
    request = contract.runner_pb2.GetRunnerRequest(runner=runner)
    found = inv.client.call(inv.client.runners.GetRunner, request, repeatable=True)
    if inv.output != "table":
        inv.printer.one(found, RUNNER)
    else:
        inv.printer.pairs([*((line.title, line.cell(found)) for line in RUNNER.lines), *disk_lines(found)])
        for warning in found.warnings:
            inv.say(f"warning: {warning}")


@command("drain", examples=("banksman runner drain build-1",))
@click.argument("runner", shell_complete=complete_runners)
def drain(inv: Invocation, runner: str) -> None:
    """Let a runner finish what it has, and take no more."""
    request = contract.runner_pb2.DrainRunnerRequest(runner=runner)
    show(inv, inv.client.call(inv.client.runners.DrainRunner, request, repeatable=True), "draining")


@command("resume", examples=("banksman runner resume build-1",))
@click.argument("runner", shell_complete=complete_runners)
def resume(inv: Invocation, runner: str) -> None:
    """Let a drained runner take runs again."""
    request = contract.runner_pb2.ResumeRunnerRequest(runner=runner)
    show(inv, inv.client.call(inv.client.runners.ResumeRunner, request, repeatable=True), "taking runs again")


@command("revoke", examples=("banksman runner revoke build-1 --yes",))
@click.argument("runner", shell_complete=complete_runners)
@yes_option
def revoke(inv: Invocation, runner: str, yes: bool) -> None:
    """Take a runner's identity away for ever; its session is closed."""
    confirm(inv, f"Revoke runner {runner}? It can only come back by a new join token.", yes=yes)
    request = contract.runner_pb2.RevokeRunnerRequest(runner=runner)
    show(inv, inv.client.call(inv.client.runners.RevokeRunner, request, repeatable=True), "revoked")


@command(
    "mark-lost",
    examples=(
        "banksman runner mark-lost build-1 --note 'its rack has no power'",
        "banksman runner mark-lost build-1 --host-is-dead --yes",
    ),
)
@click.argument("runner", shell_complete=complete_runners)
@click.option("--host-is-dead", is_flag=True, help="No process of that host can live, and its disk is gone.")
@click.option("--force", is_flag=True, help="Also while it is connected.")
@click.option("--note", default="", help="Why; kept with every run.")
@yes_option
def mark_lost(inv: Invocation, runner: str, host_is_dead: bool, force: bool, note: str, yes: bool) -> None:
    """Give up what a runner that is away holds, without waiting.

    Its runs become LOST at once. A runner that comes back is told to end what is left, and what it knows is still
    taken. Say --host-is-dead only of a host that cannot come back: runs with --on-lost retry are tried again then,
    beside whatever may still live there, and their logs are closed with what is here.
    """
    found = inv.client.call(
        inv.client.runners.GetRunner, contract.runner_pb2.GetRunnerRequest(runner=runner), repeatable=True
    )
    confirm(inv, question_of(found, host_is_dead=host_is_dead), yes=yes)
    request = contract.runner_pb2.MarkRunnerLostRequest(
        runner=found.id, host_is_dead=host_is_dead, force=force, note=note
    )
    marked = inv.client.call(inv.client.runners.MarkRunnerLost, request, repeatable=True)
    inv.say(f"runner {marked.runner.name} is marked lost: {sum_of(marked)}")
    inv.printer.one(marked, MARKED)


def question_of(runner: contract.runner_pb2.Runner, *, host_is_dead: bool) -> str:
    """How many attempts it is about, and what becomes of them."""
    live = len(runner.held_run_ids)
    owed = sum(1 for attempt in runner.attempts if not attempt.log_sealed)
    named = ", ".join(short_id(run) for run in runner.held_run_ids[:NAMED]) + (", …" if live > NAMED else "")
    about = f"{live} live attempt{'' if live == 1 else 's'}" + (f" ({named})" if live else "")
    if not host_is_dead:
        return f"Mark runner {runner.name} lost? {about}: given up, none is tried again."
    return (
        f"Mark runner {runner.name} lost, and its host dead? {about}: given up, and tried again where on_lost says so;"
        f" {owed} log{'' if owed == 1 else 's'} closed with what is here."
    )


def sum_of(marked: contract.runner_pb2.MarkRunnerLostResponse) -> str:
    parts = (
        (len(marked.lost_run_ids), "lost"),
        (len(marked.queued_run_ids), "in the queue again"),
        (len(marked.cancelled_run_ids), "cancelled"),
    )
    runs = ", ".join(f"{count} {what}" for count, what in parts if count)
    count = marked.sealed_logs
    logs = f"; {count} log{'' if count == 1 else 's'} closed with what was here" if count else ""
    return f"{runs or 'it held no live attempt'}{logs}"


def show(inv: Invocation, runner: contract.runner_pb2.Runner, what: str) -> None:
    held = f"; it still holds {len(runner.held_run_ids)} runs" if runner.held_run_ids else ""
    inv.say(f"runner {runner.name} is {what}{held}")
    if inv.output != "table":
        inv.printer.one(runner, RUNNER)
