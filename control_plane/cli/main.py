"""The program `banksman`: the table of its commands, and how each of its ends becomes an exit code."""

from __future__ import annotations

import sys
from typing import Any

import click

from control_plane.cli.commands import LazyGroup, Noun
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation, discard_closed_outputs

HELP = """Give runs to the runners of your own build hosts, watch what they print, and stop them for certain.

\b
  banksman dev                            start a control plane and a runner here
  banksman run exec -- make test          run a command, with its output live
  banksman run logs @last -f              follow the newest run
"""

TREE: dict[str, str | Noun] = {
    "run": Noun(
        "Start runs, follow them, stop them.",
        exec="run_exec:exec_run",
        list="runs:list_runs",
        get="run_get:get_run",
        logs="run_logs:logs",
        watch="run_watch:watch",
        wait="run_stop:wait",
        cancel="run_stop:cancel",
        retry="run_exec:retry_run",
        delete="run_delete:delete",
        pin="retention:pin",
        unpin="retention:unpin",
        report="run_report:report",
        artifacts="run_artifacts:list_artifacts",
        download="run_artifacts:download",
    ),
    "task": Noun(
        "Keep what is run more than once.",
        create="tasks:create",
        list="tasks:list_tasks",
        get="tasks:get",
        update="tasks:update",
        delete="task_verbs:delete",
        undelete="task_verbs:undelete",
        purge="task_verbs:purge",
        delete_runs="task_verbs:delete_runs",
        run="run_exec:run_task",
    ),
    "template": Noun(
        "Definitions with parameters, to make tasks and runs of.",
        create="templates:create",
        list="templates:list_templates",
        get="templates:get",
        update="templates:update",
        delete="templates:delete",
        instantiate="template_uses:instantiate",
        run="template_uses:run_template",
    ),
    "apply": "apply:apply",
    "diff": "apply:diff",
    "export": "export:export",
    "schedule": Noun(
        "Run a task at times.",
        create="schedules:create",
        list="schedules:list_schedules",
        get="schedules:get",
        update="schedules:update",
        delete="schedules:delete",
        pause="schedule_verbs:pause",
        resume="schedule_verbs:resume",
        trigger="schedule_verbs:trigger",
        next="schedule_verbs:next_times",
        firings="schedule_past:firings",
        backfill="schedule_past:backfill",
    ),
    "runner": Noun(
        "The build hosts that are enrolled.",
        list="runners:list_runners",
        get="runners:get",
        drain="runners:drain",
        resume="runners:resume",
        revoke="runners:revoke",
        mark_lost="runners:mark_lost",
        join_token=Noun(
            "One-time tokens with which a runner joins.",
            create="join_tokens:create",
            list="join_tokens:list_tokens",
            rm="join_tokens:remove",
        ),
    ),
    "project": Noun(
        "Namespaces for tasks, runs, schedules and secrets.",
        create="projects:create",
        list="projects:list_projects",
        get="projects:get",
        update="projects:update",
        delete="projects:delete",
    ),
    "secret": Noun(
        "Values that runs may use and nobody can read back.",
        set="secrets:set_secret",
        list="secrets:list_secrets",
        rm="secrets:remove",
    ),
    "notification": Noun(
        "What was told to whom.", list="notifications:list_deliveries", redeliver="notifications:redeliver"
    ),
    "principal": Noun(
        "Who may call.",
        create="tokens:create_principal",
        list="tokens:list_principals",
        update="principals:update_principal",
    ),
    "token": Noun(
        "API tokens of principals.", create="tokens:create", list="tokens:list_tokens", revoke="tokens:revoke"
    ),
    "audit": Noun(
        "Who did what, in a chain that shows what was changed.",
        list="audit:list_events",
        verify="audit:verify",
        export="audit:export",
    ),
    "system": Noun("The control plane itself.", gc="retention:collect"),
    "context": Noun(
        "Stored control planes.",
        list="context_verbs:list_contexts",
        use="context_verbs:use",
        set="context_verbs:set_context",
        rm="context_verbs:remove",
    ),
    "dev": "dev:dev",
    "login": "login:login",
    "whoami": "login:whoami",
    "status": "status:status",
    "version": "status:version",
    "completion": "completion:completion",
    "help": "topics:help_command",
}


class Program(LazyGroup):
    """The root: the one place where errors become sentences and exit codes."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """As click's, but every end is an exit code of ours. With standalone_mode=False errors are raised."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)  # type: ignore[call-overload]
        inv = extra.setdefault("obj", None) or Invocation()
        extra["obj"] = inv
        sys.exit(self.finish(inv, args, extra))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A reader that went away (`| head`) is no error; click would make it one."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            discard_closed_outputs()
            return ExitCode.OK

    def finish(self, inv: Invocation, args: tuple[Any, ...], extra: dict[str, Any]) -> int:
        try:
            result = super().main(*args, standalone_mode=False, **extra)  # type: ignore[call-overload]
            return result if isinstance(result, int) else ExitCode.OK
        except CliError as error:
            # What was printed comes before what went wrong, also where both go to one pipe.
            discard_closed_outputs()
            click.echo(error.render(debug=inv.debug), err=True)
            return error.exit_code
        except click.ClickException as error:
            error.show()
            return ExitCode.USAGE
        except (click.Abort, KeyboardInterrupt):
            return ExitCode.INTERRUPTED
        finally:
            inv.close()


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from control_plane.cli.status import program_version

        click.echo(f"banksman {program_version()}")
        ctx.exit()


cli = Program("banksman", HELP, TREE)
cli.params.append(
    click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Print the version."
    )
)


def main() -> None:
    """Entry point of the console script."""
    # What the terminal's encoding cannot say is escaped rather than fatal.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    cli.main(prog_name="banksman")


if __name__ == "__main__":
    main()
