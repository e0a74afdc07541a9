"""The report of a run, as its task asked for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_runs
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.notice_views import REPORT
from control_plane.cli.output import Printer
from control_plane.cli.terminal import Sanitiser
from control_plane.cli.words import enum_word

FORMATS = {"md": "MARKDOWN", "markdown": "MARKDOWN", "html": "HTML", "json": "JSON", "pdf": "PDF"}


@command(
    "report",
    examples=(
        "banksman run report @last",
        "banksman run report @last --format html --to report.html",
        "banksman run report @last --list",
    ),
)
@click.argument("run", shell_complete=complete_runs)
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(FORMATS)),
    help="One of the formats that there are (default: as FILE ends, else the first).",
)
@click.option("--to", metavar="FILE", help="Write it to a file instead of standard output.")
@click.option("--list", "listed", is_flag=True, help="List the run's reports.")
def report(inv: Invocation, run: str, form: str | None, to: str | None, listed: bool) -> None:
    """Print the report of a run; its task says whether there is one.

    Bytes go out as they are: a terminal gets no PDF.
    """
    if listed:
        inv.printer.rows(_stored(inv, run), REPORT)
        return
    if form is None and to is not None and (ending := Path(to).suffix.lower().lstrip(".")) in FORMATS:
        form = ending
    number = contract.task_pb2.ReportFormat.Value(f"REPORT_FORMAT_{FORMATS[form] if form else 'UNSPECIFIED'}")
    request = contract.report_pb2.GetReportRequest(project=inv.project, run=run, format=number)
    answer = inv.client.call(inv.client.reports.GetReport, request, repeatable=True)
    if to:
        try:
            Path(to).write_bytes(answer.body)
        except OSError as error:
            raise CliError(f"cannot write {to}: {error.strerror}") from error
        inv.say(f"{len(answer.body)} bytes of {answer.media_type} are in {to}")
        return
    if not answer.media_type.startswith("text/") and sys.stdout.isatty():
        raise CliError(f"this is {answer.media_type}: say --to FILE")
    if sys.stdout.isatty():
        click.echo(Sanitiser().feed(answer.body), nl=False)
    else:
        click.echo(answer.body, nl=False)


def show_reports(inv: Invocation, printer: Printer, run: contract.run_pb2.Run) -> None:
    """The reports that a run of a task has; before it is settled it has none."""
    if not run.HasField("settled_at") or not (run.task_id or run.template_id):
        return
    if found := _stored(inv, run.id):
        formats = ", ".join(enum_word(each, "format").lower() for each in found)
        printer.write(f"\nreports: {formats}")


def _stored(inv: Invocation, run: str) -> Sequence[contract.report_pb2.Report]:
    asked = contract.report_pb2.ListReportsRequest(project=inv.project, run=run)
    return inv.client.call(inv.client.reports.ListReports, asked, repeatable=True).reports
