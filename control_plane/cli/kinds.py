"""How things of each kind are fetched, made and changed: the calls behind documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.invocation import Invocation


def fetch(inv: Invocation, kind: str, project: str, name: str) -> Any:
    """The thing as the control plane has it, or None."""
    client = inv.client
    try:
        match kind:
            case "Template":
                wanted = contract.template_pb2.GetTemplateRequest(project=project, template=name)
                return client.call(client.templates.GetTemplate, wanted, repeatable=True)
            case "Task":
                asked = contract.task_pb2.GetTaskRequest(project=project, task=name)
                return client.call(client.tasks.GetTask, asked, repeatable=True)
            case _:
                request = contract.schedule_pb2.GetScheduleRequest(project=project, schedule=name)
                return client.call(client.schedules.GetSchedule, request, repeatable=True)
    except CliError as error:
        if error.exit_code == ExitCode.NOT_FOUND and error.reason == f"{kind.upper()}_NOT_FOUND":
            return None
        raise


def create(inv: Invocation, kind: str, project: str, message: Any, *, validate_only: bool = False) -> None:
    """Make it; `validate_only`: only learn whether it would be refused."""
    client = inv.client
    said: dict[str, Any] = {"project": project, "request_id": new_request_id(), "validate_only": validate_only}
    match kind:
        case "Template":
            new = contract.template_pb2.CreateTemplateRequest(template=message, **said)
            client.call(client.templates.CreateTemplate, new, repeatable=True)
        case "Task":
            asked = contract.task_pb2.CreateTaskRequest(task=message, **said)
            client.call(client.tasks.CreateTask, asked, repeatable=True)
        case _:
            request = contract.schedule_pb2.CreateScheduleRequest(schedule=message, **said)
            client.call(client.schedules.CreateSchedule, request, repeatable=True)


def update(
    inv: Invocation,
    kind: str,
    project: str,
    message: Any,
    fields: list[str],
    stored: Any,
    *,
    validate_only: bool = False,
) -> None:
    """Write these fields; refused when the thing was changed since it was read."""
    client, changed = inv.client, type(stored)()
    changed.CopyFrom(message)
    changed.id, changed.etag = stored.id, stored.etag
    said: dict[str, Any] = {"project": project, "validate_only": validate_only}
    match kind:
        case "Template":
            new = contract.template_pb2.UpdateTemplateRequest(template=changed, **said)
            new.update_mask.paths.extend(fields)
            client.call(client.templates.UpdateTemplate, new, repeatable=False)
        case "Task":
            asked = contract.task_pb2.UpdateTaskRequest(task=changed, **said)
            asked.update_mask.paths.extend(fields)
            client.call(client.tasks.UpdateTask, asked, repeatable=False)
        case _:
            update_schedule(inv, project, changed, fields, validate_only=validate_only)


def update_schedule(inv: Invocation, project: str, changed: Any, fields: list[str], *, validate_only: bool) -> None:
    """Whether it is paused has calls of its own, and what it runs cannot change."""
    if "task_id" in fields:
        raise CliError(f"schedule {changed.name} runs another task; delete it to make it anew")
    client, schedules = inv.client, contract.schedule_pb2
    written = [name for name in fields if name not in ("paused", "pause_note")]
    if written:
        request = schedules.UpdateScheduleRequest(project=project, schedule=changed, validate_only=validate_only)
        request.update_mask.paths.extend(written)
        client.call(client.schedules.UpdateSchedule, request, repeatable=False)
    if len(written) == len(fields) or validate_only:
        return
    if changed.paused:
        pause = schedules.PauseScheduleRequest(project=project, schedule=changed.id, note=changed.pause_note)
        client.call(client.schedules.PauseSchedule, pause, repeatable=True)
    else:
        resume = schedules.ResumeScheduleRequest(project=project, schedule=changed.id)
        client.call(client.schedules.ResumeSchedule, resume, repeatable=True)


def names(inv: Invocation, kind: str) -> Iterator[str]:
    """Of everything of this kind that the caller sees in the project."""
    client = inv.client
    match kind:
        case "Template":
            wanted = contract.template_pb2.ListTemplatesRequest(project=inv.project)
            for template in client.pages(client.templates.ListTemplates, wanted, lambda page: page.templates):
                yield template.name
        case "Task":
            asked = contract.task_pb2.ListTasksRequest(project=inv.project)
            for task in client.pages(client.tasks.ListTasks, asked, lambda page: page.tasks):
                yield task.name
        case _:
            request = contract.schedule_pb2.ListSchedulesRequest(project=inv.project)
            for schedule in client.pages(client.schedules.ListSchedules, request, lambda page: page.schedules):
                yield schedule.name
