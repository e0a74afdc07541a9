"""Watch the changes of one run, or of a whole project, as they are stored."""

from __future__ import annotations

from collections.abc import Iterator

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_runs, complete_tasks
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode, of_run
from control_plane.cli.following import end_line
from control_plane.cli.invocation import Invocation
from control_plane.cli.log_stream import FIRST_DELAY_S, LONGEST_DELAY_S, TRIES, is_passing
from control_plane.cli.output import Printer, iso, to_datetime
from control_plane.cli.plain import plain
from control_plane.cli.rpc_errors import status_name, translate
from control_plane.cli.spec_options import assign
from control_plane.cli.views import EVENT, progress_of
from control_plane.cli.words import enum_word, run_title, short_id, state_word


@command("watch", examples=("banksman run watch @last", "banksman run watch --task build -o jsonl"))
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option("--task", metavar="NAME", default="", help="Runs of this task.", shell_complete=complete_tasks)
@click.option("--filter", "text", default="", metavar="FILTER", help="Such as: tag : nightly AND runner = host1.")
@click.option(
    "--resume", metavar="TOKEN", default="", help="Go on behind the change with this resume_token (-o jsonl)."
)
def watch(inv: Invocation, run: str | None, task: str, text: str, resume: str) -> int:
    """Print the changes of a run or a project as they come.

    Of a run until it has ended; its state is the exit code.
    """
    if run and resume:
        raise CliError("--resume is for a watch of several runs; a watch of one begins with how it is now")
    if run:
        # Pins @last and short ids to the run that they mean now.
        get = contract.run_pb2.GetRunRequest(run=run, project=inv.project)
        found = inv.client.call(inv.client.runs.GetRun, get, repeatable=True)
        request = contract.run_pb2.WatchRunsRequest(project=found.project_id or inv.project, run=found.id, filter=text)
    else:
        request = contract.run_pb2.WatchRunsRequest(project=inv.project, task=task, filter=text)
    assign(request, "resume_token", resume)
    printer = inv.printer
    for change in changes(inv, request):
        show(printer, change)
        if run and not change.run.is_active:
            inv.say(end_line(change.run))
            return of_run(change.run)
    return ExitCode.OK


def changes(
    inv: Invocation, request: contract.run_pb2.WatchRunsRequest
) -> Iterator[contract.run_pb2.WatchRunsResponse]:
    """The changes in their order, over lost connections: each stream goes on behind the last change that came."""
    import grpc

    client, failures, answered = inv.client, 0, False
    while True:
        error: grpc.RpcError | None = None
        try:
            for change in client.runs.WatchRuns(request, metadata=client.metadata):
                failures, answered = 0, True
                if change.resume_token:
                    request.resume_token = change.resume_token
                yield change
        except grpc.RpcError as broken:
            error = broken
        failures += 1
        if error is not None and status_name(error) == "OUT_OF_RANGE" and request.resume_token and answered:
            inv.say("banksman: changes were missed while the connection was away")
            request.resume_token = ""
        elif error is not None and (not is_passing(error) or (not answered and failures >= TRIES)):
            raise translate(error, client.target.url) from error
        elif failures == 1 and answered:
            inv.say("banksman: the connection was lost; trying again")
        client.clock.sleep(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures - 1, 10)))


def show(printer: Printer, change: contract.run_pb2.WatchRunsResponse) -> None:
    """One line a change; the present state, which comes first, has no event."""
    if printer.form != "table":
        form = Printer(
            form="jsonl" if printer.form == "json" else printer.form,
            stream=printer.stream,
            terminal=printer.terminal,
            color=printer.color,
            now=printer.now,
        )
        form.one(change, EVENT)
        if printer.form == "yaml":
            printer.write("---")
        printer.stream.flush()
        return
    event, run = change.event, change.run
    at = iso(to_datetime(event.at)) if event.HasField("at") else iso(printer.now())
    told = progress_of(run)
    what = enum_word(event, "type").lower() or ("progress" if told else "now")
    why = event.note or enum_word(event, "reason").lower() or ("" if enum_word(event, "type") else told)
    # Of a deleted run only its last event is left.
    run_id = run.id or event.run_id
    cells = [at, run_id if not printer.terminal else short_id(run_id), state_word(run), what, run_title(run), why]
    text = "\t".join(plain(cell) for cell in cells)
    printer.write(text.expandtabs(12).rstrip() if printer.terminal else text)
    printer.stream.flush()
