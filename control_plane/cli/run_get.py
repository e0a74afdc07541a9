"""Show one run: how it ended and why, its attempts, and the end of its log when it failed."""

from __future__ import annotations

import sys

import click

from control_plane.cli import contract
from control_plane.cli.attempt_view import attempt_lines
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_runs
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation, stdout_bytes
from control_plane.cli.log_stream import LogQuery, LogStream
from control_plane.cli.log_writer import LogWriter
from control_plane.cli.output import Printer
from control_plane.cli.people import name_maker
from control_plane.cli.plain import plain
from control_plane.cli.run_artifacts import show_artifacts
from control_plane.cli.run_report import show_reports
from control_plane.cli.views import RUN
from control_plane.cli.words import state_word

TAIL_LINES = 50
BAD_ENDS = ("FAILED", "TIMED_OUT", "LOST")


@command("get", examples=("banksman run get @last", "banksman run get 1a2b3c4d -o yaml"))
@click.argument("run", shell_complete=complete_runs)
@click.option(
    "--log-lines", type=click.IntRange(0, 10_000), default=TAIL_LINES, show_default=True, help="Of a bad end."
)
def get_run(inv: Invocation, run: str, log_lines: int) -> None:
    """Show a run, and the end of its log if it ended badly."""
    request = contract.run_pb2.GetRunRequest(run=run, project=inv.project)
    found = inv.client.call(inv.client.runs.GetRun, request, repeatable=True)
    name_maker(inv, found)
    printer = inv.printer
    printer.one(found, RUN)
    if printer.form != "table":
        return
    show_attempts(printer, found)
    show_artifacts(inv, printer, found)
    show_reports(inv, printer, found)
    show_remedies(printer, found)
    if state_word(found) in BAD_ENDS and log_lines and found.attempts:
        show_tail(inv, found, log_lines)


def show_attempts(printer: Printer, run: contract.run_pb2.Run) -> None:
    """Oldest first; rejected ones, which never held anything, are only counted. A single one repeats nothing."""
    rejected = [attempt for attempt in run.attempts if state_word(attempt) == "REJECTED"]
    held = [attempt for attempt in run.attempts if state_word(attempt) != "REJECTED"]
    told = {(line.title, line.cell(run)) for line in RUN.lines} if len(held) == 1 else set()
    for attempt in sorted(held, key=lambda attempt: attempt.lease_epoch):
        lines = [line for line in attempt_lines(attempt) if line not in told]
        printer.write("")
        printer.pairs([("attempt", str(attempt.number)), *lines])
    if rejected:
        printer.write("")
        printer.pairs([("rejected offers", str(len(rejected)))])


def show_remedies(printer: Printer, run: contract.run_pb2.Run) -> None:
    """Whole commands, to be copied; which one is right depends on what is known of the host."""
    if run.remedies:
        what = "what frees it without waiting for its host" if run.is_active else "what settles it without its host"
        printer.write(f"\n{what}:")
    for remedy in run.remedies:
        printer.write(f"  {plain(remedy.command)}\n      {plain(remedy.effect)}")


def show_tail(inv: Invocation, run: contract.run_pb2.Run, lines: int) -> None:
    """The last lines of both outputs, as the program's stdout shows data."""
    inv.printer.write(f"\nlast {lines} log lines:")
    sys.stdout.flush()
    stdout, terminal = stdout_bytes(), sys.stdout.isatty()
    writer = LogWriter(stdout=stdout, stderr=stdout, stdout_terminal=terminal, stderr_terminal=terminal, say=inv.say)
    try:
        for item in LogStream(inv.client, LogQuery(run=run.id, project=run.project_id, tail_lines=lines), inv.say):
            writer.take(item)
    except CliError as error:
        inv.say(f"the log cannot be read: {error.message}")
    writer.finish()
