"""What the tables show of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.cli.output import Column, State, View, span, when
from control_plane.cli.views import command_of, env_of, loss_of, pairs, retry_of, rule_of, selectors_of, template_of
from control_plane.cli.words import enum_word, enum_words

if TYPE_CHECKING:
    from control_plane.cli.contract import task_pb2


def _state(task: task_pb2.Task) -> State:
    if task.HasField("deleted_at"):
        return State("deleted")
    return State("active" if task.active else "inactive")


def _what(task: task_pb2.Task) -> str:
    if not task.spec.HasField("coding_agent"):
        return command_of(task.spec)
    agent = task.spec.coding_agent
    return f"{enum_word(agent, 'type').lower()} coding agent: {agent.prompt.splitlines()[0] if agent.prompt else ''}"


def _variables(task: task_pb2.Task) -> str:
    """NAME=default, NAME (required), NAME=secret:S."""
    parts = []
    for variable in task.variables:
        text = variable.name
        if variable.secret_ref:
            text += f"=secret:{variable.secret_ref}"
        elif variable.HasField("default_value"):
            text += f"={variable.default_value.string_value}"
        notes = [word for word, there in (("sensitive", variable.sensitive), ("required", variable.required)) if there]
        parts.append(f"{text} ({', '.join(notes)})" if notes else text)
    return ", ".join(parts)


def _reports(task: task_pb2.Task) -> str:
    if not task.report.enabled:
        return ""
    return ", ".join(enum_words(task.report, "formats"))


def _notifications(task: task_pb2.Task) -> str:
    parts = []
    for settings in task.notifications:
        names = enum_words(settings, "events")
        parts.append(f"{','.join(names)} to {settings.webhook_url or f'secret:{settings.secret_ref}'}")
    return "; ".join(parts)


def _schedules(task: task_pb2.Task) -> str:
    return ", ".join(
        f"{schedule.name}: {rule_of(schedule)}{' (paused)' if schedule.paused else ''}" for schedule in task.schedules
    )


TASK = View(
    columns=(
        Column("NAME", lambda task: task.name),
        Column("STATE", _state),
        Column("TAGS", lambda task: ",".join(task.tags)),
        Column("UPDATED", lambda task: when(task, "updated_at")),
        Column("DESCRIPTION", lambda task: task.description),
    ),
    lines=(
        Column("name", lambda task: task.name),
        Column("id", lambda task: task.id),
        Column("state", _state),
        Column("description", lambda task: task.description),
        Column("template", template_of),
        Column("command", _what),
        Column("variables", _variables),
        Column("selectors", lambda task: selectors_of(task.spec)),
        Column("env", lambda task: env_of(task.spec)),
        Column("timeout", lambda task: span(task.spec, "timeout")),
        Column("retry", lambda task: retry_of(task.spec)),
        Column("if its runner is lost", lambda task: loss_of(task.spec)),
        Column("a run may change", lambda task: ", ".join(task.allowed_overrides)),
        Column("schedules", _schedules),
        Column("reports", _reports),
        Column("notifications", _notifications),
        Column("labels", lambda task: pairs(task.labels)),
        Column("tags", lambda task: ",".join(task.tags)),
        Column("owner", lambda task: task.owner),
        Column("public", lambda task: "yes" if task.is_public else "no"),
        Column("created by", lambda task: task.created_by),
        Column("created", lambda task: when(task, "created_at")),
        Column("updated", lambda task: when(task, "updated_at")),
        Column("deleted", lambda task: when(task, "deleted_at")),
        Column("etag", lambda task: task.etag),
    ),
    name=lambda task: str(task.name),
)
