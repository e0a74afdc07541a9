"""The options of a task beside its spec: who may use it, what a run may change, who is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from control_plane.cli import contract
from control_plane.cli.commands import key_values
from control_plane.cli.errors import CliError
from control_plane.cli.spec_options import assign
from control_plane.cli.variable_options import DECLARING, declare, declaring_options

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("json", "markdown", "html", "pdf")
EVENTS = ("created", "started", "finished", "settled", "failed", "cancelled", "lost", "schedule_paused")
# As the contract names the fields that one run may do otherwise.
OVERRIDES = (
    *("timeout", "idle_timeout", "start_timeout", "queue_timeout", "grace", "env", "selectors"),
    *("runner", "slots", "retry", "loss", "working_directory"),
)
_OPTIONS = (
    click.option("--description", metavar="TEXT", help="What it is for."),
    click.option("--tag", multiple=True, metavar="TAG", help="Tag; repeatable."),
    click.option("--task-label", multiple=True, metavar="K=V", help="Label of the task itself."),
    click.option("--owner", metavar="NAME", help="Whose it is (default: yours); only an admin names another."),
    click.option("--public/--private", default=None, help="Whether other members may see and run it."),
    click.option("--unknown-variables", type=click.Choice(["keep", "refuse"]), help="Placeholders without a value."),
    click.option(
        "--allow-shell-substitution/--no-shell-substitution",
        default=None,
        help="Allow placeholders in what a shell executes (sh -c).",
    ),
    click.option(
        "--allow-override", multiple=True, type=click.Choice(OVERRIDES), help="What a run may do otherwise; repeatable."
    ),
    click.option("--report", multiple=True, type=click.Choice(FORMATS), help="A report of each run; repeatable."),
    click.option("--no-report", is_flag=True, help="No reports."),
    click.option(
        "--notify",
        multiple=True,
        metavar="EVENT[,EVENT]=URL",
        help="Webhook to call (created, started, finished, failed ...), or secret:NAME that holds its URL; repeatable.",
    ),
    click.option("--sign-with", metavar="SECRET", help="Secret of the project that signs the webhooks of --notify."),
)
NAMES = (
    *("description", "tag", "task_label", "owner", "public", "unknown_variables", "allow_shell_substitution"),
    *("allow_override", "report", "no_report", "notify", "sign_with"),
    *DECLARING,
)


def task_options(function: F) -> F:
    """Add the options; they come as keyword arguments named in NAMES."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return declaring_options(function)


def change(task: contract.task_pb2.Task, given: dict[str, Any]) -> list[str]:
    """Set what was given; the names of those fields."""
    changed = _texts(task, given)
    if given["tag"]:
        task.tags[:] = given["tag"]
        changed.append("tags")
    if given["task_label"]:
        task.labels.clear()
        task.labels.update(key_values(given["task_label"], "--task-label"))
        changed.append("labels")
    if declare(task, {name: given[name] for name in DECLARING}):
        changed.append("variables")
    if given["allow_override"]:
        task.allowed_overrides[:] = given["allow_override"]
        changed.append("allowed_overrides")
    changed += _report(task, given["report"], off=given["no_report"])
    if given["notify"]:
        del task.notifications[:]
        for text in given["notify"]:
            _notify(task, text, given["sign_with"] or "")
        changed.append("notifications")
    elif given["sign_with"]:
        raise CliError("--sign-with goes with --notify")
    return changed


def _texts(task: contract.task_pb2.Task, given: dict[str, Any]) -> list[str]:
    changed = []
    for name, field in (
        ("description", "description"),
        ("owner", "owner"),
        ("public", "is_public"),
        ("allow_shell_substitution", "allow_shell_substitution"),
    ):
        if given[name] is not None:
            assign(task, field, given[name])
            changed.append(field)
    if given["unknown_variables"] is not None:
        word = f"UNKNOWN_VARIABLES_{given['unknown_variables'].upper()}"
        task.unknown_variables = contract.task_pb2.UnknownVariables.Value(word)
        changed.append("unknown_variables")
    return changed


def _report(task: contract.task_pb2.Task, formats: tuple[str, ...], *, off: bool) -> list[str]:
    if off and formats:
        raise CliError("give either --report or --no-report")
    if not off and not formats:
        return []
    task.report.Clear()
    if formats:
        task.report.enabled = True
        task.report.formats.extend(
            contract.task_pb2.ReportFormat.Value(f"REPORT_FORMAT_{each.upper()}") for each in formats
        )
    return ["report"]


def _notify(task: contract.task_pb2.Task, text: str, sign_with: str) -> None:
    words, equals, where = text.partition("=")
    events = [word.strip().lower().replace("-", "_") for word in words.split(",")]
    strange = [event for event in events if event not in EVENTS]
    if not equals or not where or strange:
        raise CliError(f"--notify {text!r} is not EVENT[,EVENT]=URL", cause=f"events are {', '.join(EVENTS)}")
    settings = task.notifications.add()
    settings.events.extend(
        contract.task_pb2.NotificationEvent.Value(f"NOTIFICATION_EVENT_{event.upper()}") for event in events
    )
    if where.startswith("secret:"):
        assign(settings, "secret_ref", where.removeprefix("secret:"))
    else:
        assign(settings, "webhook_url", where)
        assign(settings, "secret_ref", sign_with)
