"""The files that a run has left: list them, and bring them here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_runs
from control_plane.cli.downloading import Download
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import Column, Printer, View, when
from control_plane.cli.plain import plain

SHOWN = 20

ARTIFACT = View(
    columns=(
        Column("NAME", lambda found: found.name),
        Column("BYTES", lambda found: str(found.size_bytes)),
        Column("SHA256", lambda found: found.sha256),
        Column("EPOCH", lambda found: str(found.lease_epoch)),
        Column("STORED", lambda found: when(found, "created_at")),
    ),
    lines=(
        Column("id", lambda found: found.id),
        Column("name", lambda found: found.name),
        Column("bytes", lambda found: str(found.size_bytes)),
        Column("sha256", lambda found: found.sha256),
    ),
    name=lambda found: str(found.name),
)


@command("artifacts", examples=("banksman run artifacts @last", "banksman run artifacts @last -o jsonl"))
@click.argument("run", shell_complete=complete_runs)
def list_artifacts(inv: Invocation, run: str) -> None:
    """List the files that a run has left."""
    inv.printer.rows(_stored(inv, run), ARTIFACT)


@command(
    "download",
    examples=("banksman run download @last", "banksman run download @last dist/app.whl --to /tmp/app"),
)
@click.argument("run", shell_complete=complete_runs)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--to", default=".", metavar="DIR", help="Where they go, with their folders (default: here).")
def download(inv: Invocation, run: str, names: tuple[str, ...], to: str) -> None:
    """Bring a run's files here, all or those that are named.

    Every file is compared with its hash. What a download that was cut has left goes on where it stopped, and what is
    there already with other bytes is left alone.
    """
    newest = {found.name: found for found in sorted(_stored(inv, run), key=lambda found: found.lease_epoch)}
    unknown = [plain(name) for name in names if name not in newest]
    if unknown:
        raise CliError(
            f"the run has no artifact {', '.join(unknown)}",
            exit_code=ExitCode.NOT_FOUND,
            next_command=f"banksman run artifacts {run}",
        )
    target = Download(inv.client, inv.project, Path(to))
    for name in dict.fromkeys(names or newest):
        place = plain(str(Path(to) / name))
        inv.say(f"{place}: {newest[name].size_bytes} bytes" if target.fetch(newest[name]) else f"{place} is there")


def show_artifacts(inv: Invocation, printer: Printer, run: contract.run_pb2.Run) -> None:
    """Behind what is told of a run whose spec names some."""
    if not run.spec.artifacts:
        return
    found = list(_stored(inv, run.id, limit=SHOWN + 1))
    printer.write("\nartifacts:" if found else "\nartifacts: none")
    for each in found[:SHOWN]:
        printer.write(f"  {plain(each.name)} ({each.size_bytes} bytes)")
    if len(found) > SHOWN:
        printer.write(f"  and more: banksman run artifacts {run.id}")


def _stored(inv: Invocation, run: str, limit: int | None = None) -> Iterable[contract.artifact_pb2.Artifact]:
    request = contract.artifact_pb2.ListArtifactsRequest(run=run, project=inv.project)
    return inv.client.pages(inv.client.runs.ListArtifacts, request, lambda page: page.artifacts, limit=limit)
