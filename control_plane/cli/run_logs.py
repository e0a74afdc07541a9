"""Read a run's log, from any point, and follow it."""

from __future__ import annotations

import sys

import click

from control_plane.cli import contract
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_runs
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation, stderr_bytes, stdout_bytes
from control_plane.cli.log_stream import LogQuery, LogStream, Piece
from control_plane.cli.log_writer import LogWriter
from control_plane.cli.times import parse_time

STREAMS = ("stdout", "stderr", "system", "pty")


@command(
    "logs",
    examples=(
        "banksman run logs @last -f",
        "banksman run logs 1a2b3c4d --tail 100 --stream stderr",
        "banksman run logs 1a2b3c4d --from-offset 4096 > rest.log",
    ),
)
@click.argument("run", shell_complete=complete_runs)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends, over lost connections.")
@click.option("--from-offset", type=click.IntRange(min=0), metavar="BYTES", help="Begin at this byte of the log.")
@click.option("--tail", type=click.IntRange(0, 1_000_000), metavar="LINES", help="Begin with the last lines.")
@click.option("--since", metavar="TIME", help="Begin with what was printed since 10m (ago), or a time.")
@click.option("--stream", multiple=True, type=click.Choice(STREAMS), help="Only this stream; repeatable.")
@click.option("--step", type=click.IntRange(0, 15), metavar="N", help="Only this step, counted from 0.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="This attempt (default: the newest).")
@click.option("--times", is_flag=True, help="Begin each line with its time and stream.")
def logs(
    inv: Invocation,
    run: str,
    follow: bool,
    from_offset: int | None,
    tail: int | None,
    since: str | None,
    stream: tuple[str, ...],
    step: int | None,
    attempt: int | None,
    times: bool,
) -> int:
    """Print a run's log; in a pipe byte for byte.

    Its stdout comes to stdout, its stderr and the lines of Banksman to stderr. Ends with 10 when bytes are missing.
    """
    if sum(value is not None for value in (from_offset, tail, since)) > 1:
        raise CliError("give only one of --from-offset, --tail and --since")
    if inv.output not in ("table", "jsonl"):
        raise CliError("a log is printed as it is, or with -o jsonl as records")
    query = LogQuery(
        run=run,
        project=inv.project,
        lease_epoch=epoch_of(inv, run, attempt) if attempt else 0,
        from_offset=from_offset,
        tail_lines=tail,
        since=parse_time(since, inv.clock.now()) if since is not None else None,
        follow=follow,
        kinds=tuple(contract.log_pb2.LogKind.Value(f"LOG_KIND_{name.upper()}") for name in stream),
        step=step,
    )
    log = LogStream(inv.client, query, inv.say)
    write(inv, log, times=times)
    if log.end is not None and not log.end.complete and not still_open(log.end):
        inv.say("banksman: the log is incomplete: its runner is away or has lost the rest")
        return ExitCode.LOG_INCOMPLETE
    return ExitCode.OK


def write(inv: Invocation, log: LogStream, *, times: bool) -> None:
    if inv.output == "jsonl":
        from control_plane.cli.output import as_data, json_text

        for item in log:
            if isinstance(item, Piece):
                data = {"lease_epoch": item.lease_epoch, "offset": item.offset, **as_data(item.record)}
                inv.printer.write(json_text(data))
                sys.stdout.flush()
        return
    writer = LogWriter(
        stdout=stdout_bytes(),
        stderr=stderr_bytes(),
        stdout_terminal=sys.stdout.isatty(),
        stderr_terminal=sys.stderr.isatty(),
        times=times,
        say=inv.say,
    )
    for item in log:
        writer.take(item)
    writer.finish()


def still_open(end: contract.log_pb2.LogEnd) -> bool:
    """Whether more may come, so that nothing is missing yet: the answer to a reader who did not follow."""
    pb = contract.run_pb2
    return end.state in (
        pb.RUN_STATE_QUEUED,
        pb.RUN_STATE_ASSIGNED,
        pb.RUN_STATE_RUNNING,
        pb.RUN_STATE_CANCELLING,
    )


def epoch_of(inv: Invocation, run: str, number: int) -> int:
    """The lease epoch of the run's attempt with this number."""
    request = contract.run_pb2.GetRunRequest(run=run, project=inv.project)
    found = inv.client.call(inv.client.runs.GetRun, request, repeatable=True)
    epochs = [attempt.lease_epoch for attempt in found.attempts if attempt.number == number]
    if not epochs:
        raise CliError(
            f"the run has no attempt {number}", exit_code=ExitCode.NOT_FOUND, next_command=f"banksman run get {run}"
        )
    return max(epochs)
