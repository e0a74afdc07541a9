"""`--clear FIELD`: what a task has is taken away again, so that the default holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from control_plane.cli import contract
from control_plane.cli.errors import CliError

_COMMAND = "spec.steps.command."
# What can be cleared, by the option that sets it, as the contract's fields.
FIELDS: dict[str, tuple[str, ...]] = {
    "description": ("description",),
    "tag": ("tags",),
    "task-label": ("labels",),
    "var": ("variables",),
    "unknown-variables": ("unknown_variables",),
    "allow-override": ("allowed_overrides",),
    "report": ("report",),
    "notify": ("notifications",),
    "cwd": (_COMMAND + "working_directory",),
    "stdin": (_COMMAND + "stdin",),
    "success-exit-code": (_COMMAND + "success_exit_codes",),
    "env": ("spec.env",),
    "label": ("spec.selectors",),
    "runner": ("spec.runner",),
    "slots": ("spec.slots",),
    "timeout": ("spec.timeout",),
    "idle-timeout": ("spec.idle_timeout",),
    "queue-timeout": ("spec.queue_timeout",),
    "start-timeout": ("spec.start_timeout",),
    "grace": ("spec.grace",),
    "stop-signal": ("spec.stop_signal",),
    "retry": ("spec.retry",),
    "on-lost": ("spec.loss.on_lost",),
    "lost-after": ("spec.loss.lost_after", "spec.loss.never"),
    "priority": ("spec.priority",),
    "log-limit": ("spec.log_limit_bytes",),
    "max-concurrent": ("spec.concurrency",),
    "artifact": ("spec.artifacts",),
    "keep-workspace": ("spec.workspace",),
}

clear_option = click.option(
    "--clear",
    multiple=True,
    type=click.Choice(tuple(FIELDS)),
    metavar="OPTION",
    help="Take away what this option has set, before anything else is set: "
    f"{', '.join(FIELDS)}. env: secrets too; var: all declarations; retry: all about retries. Repeatable.",
)


def clear(task: contract.task_pb2.Task, names: Sequence[str]) -> set[str]:
    """Clear these; the task's fields that were meant, for the update's mask."""
    paths = [path for name in names for path in FIELDS[name]]
    for path in paths:
        _clear(task, path)
    return {path.partition(".")[0] for path in paths}


def _clear(task: contract.task_pb2.Task, path: str) -> None:
    if path.startswith(_COMMAND):
        if len(task.spec.steps) > 1:
            raise CliError("the spec has several steps; change its commands in a file (-f)")
        for step in task.spec.steps:
            step.command.ClearField(path.removeprefix(_COMMAND))  # type: ignore[arg-type]
        return
    *outer, last = path.split(".")
    messages: list[Any] = [task]
    for name in outer:
        messages.append(getattr(messages[-1], name))
    messages[-1].ClearField(last)
    if len(outer) > 1 and not messages[-1].ByteSize():
        # A policy that says nothing any more is none.
        messages[-2].ClearField(outer[-1])
