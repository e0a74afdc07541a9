"""Runners: the build hosts that are enrolled."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command, confirm, yes_option
from control_plane.cli.completing import complete_runners
from control_plane.cli.invocation import Invocation
from control_plane.cli.views import RUNNER


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
    """Show a runner, what it holds, and what its agent warns of."""
    request = contract.runner_pb2.GetRunnerRequest(runner=runner)
    found = inv.client.call(inv.client.runners.GetRunner, request, repeatable=True)
    inv.printer.one(found, RUNNER)
    if inv.output == "table":
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


def show(inv: Invocation, runner: contract.runner_pb2.Runner, what: str) -> None:
    held = f"; it still holds {len(runner.held_run_ids)} runs" if runner.held_run_ids else ""
    inv.say(f"runner {runner.name} is {what}{held}")
    if inv.output != "table":
        inv.printer.one(runner, RUNNER)
