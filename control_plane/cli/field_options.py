"""The options behind the contract's fields: a refusal names both, where the command at hand has the option."""

from __future__ import annotations

import re

import click

INDEX = re.compile(r"\[[^]]*\]")
# Fields whose option has another name. The longest prefix counts, so that parts of a field lead to its option too.
OPTIONS = {
    "spec.steps": "CMD",
    "spec.steps.command.script": "--script",
    "spec.steps.command.interpreter": "--interpreter",
    "spec.steps.command.working_directory": "--cwd",
    "spec.steps.command.stdin": "--stdin",
    "spec.steps.command.success_exit_codes": "--success-exit-code",
    "spec.env": "--env",
    "spec.env.secret_ref": "--secret",
    "spec.selectors": "--label",
    "spec.retry.max_attempts": "--retry",
    "spec.retry.backoff": "--retry-backoff",
    "spec.retry.retry_on": "--retry-on",
    "spec.loss.on_lost": "--on-lost",
    "spec.loss.lost_after": "--lost-after",
    "spec.log_limit_bytes": "--log-limit",
    "options.trigger_metadata": "--meta",
    "options.labels": "--run-label",
    "options.links": "--link",
    "options.variables": "--var",
    "options.overrides.selectors": "--label",
    "template.parameters": "--param",
    "parameters": "--param",
    "secret_parameters": "--secret-param",
    "schedule.task_id": "--task",
    "draft.task_id": "--task",
    "schedule.variables": "--var",
    "task.variables": "--var",
    "task.variables.secret_ref": "--secret-var",
    "task.notifications": "--notify",
    "task.report.formats": "--report",
    "task.tags": "--tag",
    "task.labels": "--task-label",
    "principal.project_ids": "--grant-project",
    "new_name": "--name",
    "start_at": "--from",
    "end_at": "--to",
    "allowed_projects": "--allow-project",
    "granted_labels": "--grant",
}
# Messages of the requests whose fields have options of the same names.
MESSAGES = ("options.overrides", "spec", "options", "schedule", "draft", "task", "project", "principal")


def option_of(field: str) -> str:
    """The option of the running command that sets this field, as it is written; empty when there is none."""
    context = click.get_current_context(silent=True)
    path = INDEX.sub("", field)
    if path.startswith("task.spec"):
        path = path.removeprefix("task.")
    return "" if context is None else next((name for name in candidates(path) if has(context.command, name)), "")


def candidates(path: str) -> list[str]:
    """Likely names, the most exact one first."""
    parts = path.split(".")
    named = [OPTIONS.get(".".join(parts[:count]), "") for count in range(len(parts), 0, -1)]
    inner = next((path[len(message) + 1 :] for message in MESSAGES if path.startswith(f"{message}.")), path)
    plain = f"--{inner.replace('_', '-')}" if "." not in inner else ""
    return [name for name in (*named, plain) if name]


def has(command: click.Command, name: str) -> bool:
    if not name.startswith("-"):
        return any(isinstance(param, click.Argument) and param.name == name.lower() for param in command.params)
    return any(name in param.opts or name in param.secondary_opts for param in command.params)
