"""Start runs: a command without a task, a task, or an old run again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import click

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import Seconds, command, key_values
from control_plane.cli.completing import complete_runs, complete_tasks
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.following import end_line, follow_run
from control_plane.cli.invocation import Invocation
from control_plane.cli.override_options import NAMES as OVERRIDING
from control_plane.cli.override_options import override, override_options
from control_plane.cli.plain import plain
from control_plane.cli.spec_options import SpecOptions, assign, build_spec, spec_options
from control_plane.cli.times import parse_time
from control_plane.cli.variable_options import copied, give, give_values, giving_options
from control_plane.cli.views import RUN

F = TypeVar("F", bound=Callable[..., Any])
TITLE_LENGTH = 60
REL = re.compile(r"([\w.-]+)=https?:")

follow_option = click.option("-f", "--follow", is_flag=True, help="Show its output until it ends.")
wait_option = click.option("--wait-timeout", type=Seconds(), help="Stop following after this time; the run goes on.")
propagate_option = click.option("--propagate-exit-code", is_flag=True, help="End with the program's own exit code.")


def run_options(function: F) -> F:
    """Options of one run beside its spec."""
    function = giving_options(function)
    for option in (
        click.option("--deadline", metavar="TIME", help="Its latest end with queue and retries: 2h, or a time."),
        click.option("--not-before", metavar="TIME", help="Earliest start: 10m, or a time."),
        click.option("--meta", multiple=True, metavar="K=V", help="Metadata to keep with the run."),
        click.option("--run-label", multiple=True, metavar="K=V", help="Label of the run itself; repeatable."),
        click.option("--link", multiple=True, metavar="[REL=]URL", help="A link to show with it; repeatable."),
        click.option("--title", metavar="TEXT", help="A title for lists."),
        click.option("--request-id", metavar="ID", help="Within 24 h the same id gives the same run, not another."),
    ):
        function = option(function)
    return function


def build_options(
    inv: Invocation,
    title: str | None,
    meta: tuple[str, ...],
    not_before: str | None,
    deadline: str | None,
    run_label: tuple[str, ...],
    link: tuple[str, ...],
    var: tuple[str, ...],
    sensitive_var: tuple[str, ...],
) -> contract.run_pb2.RunOptions:
    options = contract.run_pb2.RunOptions()
    give(inv, options, var, sensitive_var)
    if title is not None:
        assign(options, "title", title)
    options.trigger_metadata.update(key_values(meta, "--meta"))
    options.labels.update(key_values(run_label, "--run-label"))
    for given in link:
        # A URL has equals signs of its own.
        rel = found[1] if (found := REL.match(given)) else ""
        fresh = options.links.add()
        assign(fresh, "rel", rel)
        assign(fresh, "url", given[len(rel) + 1 :] if rel else given)
    for name, text in (("not_before", not_before), ("deadline", deadline)):
        if text is not None:
            getattr(options, name).FromDatetime(parse_time(text, inv.clock.now(), ahead=True))
    return options


@command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    examples=(
        "banksman run exec -- make -C src all",
        "banksman run exec --label os=linux --timeout 30m -- ./build.sh",
        "tar c . | banksman run exec -- tar tv",
        "banksman run exec --script deploy.py --interpreter python3 -d",
    ),
)
@run_options
@spec_options
@propagate_option
@wait_option
@click.option("-d", "--detach", is_flag=True, help="Do not follow; print the run's id.")
def exec_run(
    inv: Invocation,
    given: SpecOptions,
    detach: bool,
    wait_timeout: float | None,
    propagate_exit_code: bool,
    **about: Any,
) -> int:
    """Run a command on a runner and show its output live.

    The command's stdout comes to stdout and its stderr to stderr; what banksman says goes to stderr. Ctrl-C asks
    whether to cancel or to detach; without a terminal Ctrl-C and SIGTERM cancel the run and wait for its end.
    """
    check_following(follow=not detach, wait_timeout_s=wait_timeout, propagate=propagate_exit_code)
    if not given.cmd and given.script is None:
        raise CliError("there is no command to run", next_command="banksman run exec -- CMD...")
    request_id = about.pop("request_id") or new_request_id()
    options = build_options(inv, **about)
    if not options.title:
        # Without a task a list would have nothing to call it by.
        assign(options, "title", title_of(given))
    request = contract.run_pb2.CreateRunRequest(
        project=inv.project,
        spec=build_spec(inv, given, send_stdin=True),
        options=options,
        request_id=request_id,
    )
    try:
        run = inv.client.call(inv.client.runs.CreateRun, request, repeatable=True)
    except KeyboardInterrupt:
        raise CliError(
            "interrupted while the run was being made; it may be there",
            exit_code=ExitCode.INTERRUPTED,
            next_command="banksman run list",
        ) from None
    return started(inv, run, follow=not detach, wait_timeout_s=wait_timeout, propagate=propagate_exit_code)


def title_of(given: SpecOptions) -> str:
    """The command line or the script's name, cut to a list's width; what is not UTF-8 is left to the spec to refuse."""
    text = shlex.join(given.cmd) if given.cmd else str(given.script)
    text = plain(text.encode("utf-8", errors="replace").decode("utf-8"))
    return text if len(text) <= TITLE_LENGTH else text[: TITLE_LENGTH - 1] + "…"


@command(
    "run",
    examples=(
        "banksman task run nightly --follow",
        "banksman task run deploy --var stage=live --title 'after the fix'",
    ),
)
@click.argument("task", shell_complete=complete_tasks)
@run_options
@override_options
@click.option("--priority", type=int, metavar="N", help="Wins over the task's own.")
@propagate_option
@wait_option
@follow_option
def run_task(
    inv: Invocation,
    task: str,
    priority: int | None,
    follow: bool,
    wait_timeout: float | None,
    propagate_exit_code: bool,
    **about: Any,
) -> int:
    """Run a task now."""
    check_following(follow=follow, wait_timeout_s=wait_timeout, propagate=propagate_exit_code)
    changes = {name: about.pop(name) for name in OVERRIDING}
    request_id = about.pop("request_id") or new_request_id()
    options = build_options(inv, **about)
    override(inv, options, changes)
    if priority is not None:
        assign(options, "priority", priority)
    request = contract.task_pb2.RunTaskRequest(project=inv.project, task=task, options=options, request_id=request_id)
    run = inv.client.call(inv.client.tasks.RunTask, request, repeatable=True)
    return started(inv, run, follow=follow, wait_timeout_s=wait_timeout, propagate=propagate_exit_code)


@command("retry", examples=("banksman run retry @last --follow", "banksman run retry @last --latest"))
@click.argument("run", shell_complete=complete_runs)
@click.option("--use-newest-spec", "--latest", is_flag=True, help="Take the task as it is now, not as the run had it.")
@click.option(
    "--var",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Instead of the old run's value; NAME copies $NAME; repeatable.",
)
@propagate_option
@wait_option
@follow_option
def retry_run(
    inv: Invocation,
    run: str,
    use_newest_spec: bool,
    var: tuple[str, ...],
    follow: bool,
    wait_timeout: float | None,
    propagate_exit_code: bool,
) -> int:
    """Run a finished run again, as a new run."""
    check_following(follow=follow, wait_timeout_s=wait_timeout, propagate=propagate_exit_code)
    request = contract.run_pb2.RetryRunRequest(
        run=run, project=inv.project, use_newest_spec=use_newest_spec, request_id=new_request_id()
    )
    give_values(request.variables, copied(inv, var))
    fresh = inv.client.call(inv.client.runs.RetryRun, request, repeatable=True)
    return started(inv, fresh, follow=follow, wait_timeout_s=wait_timeout, propagate=propagate_exit_code)


def check_following(*, follow: bool, wait_timeout_s: float | None, propagate: bool) -> None:
    """Raises CliError for options that mean nothing unless the run is followed; before anything is started."""
    if not follow and (wait_timeout_s is not None or propagate):
        raise CliError("--wait-timeout and --propagate-exit-code need the run to be followed")


def started(
    inv: Invocation, run: contract.run_pb2.Run, *, follow: bool, wait_timeout_s: float | None, propagate: bool
) -> int:
    """Follow the fresh run, or print it: in a table's place its id alone."""
    if follow:
        return follow_run(inv, run, wait_timeout_s=wait_timeout_s, propagate=propagate)
    printer = inv.printer
    if printer.form == "table":
        printer.write(run.id)
    else:
        printer.one(run, RUN)
    if not run.is_active:
        inv.say(end_line(run))
        return ExitCode.CONFLICT
    return ExitCode.OK
