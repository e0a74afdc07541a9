"""What a caller can see: another's project, and everything in it, is as if it were not there; so is another's task."""

from __future__ import annotations

import re

from control_plane.domain.errors import ErrorCode, NotFound
from control_plane.domain.ids import PrincipalId, ProjectId
from control_plane.domain.principal import Caller
from control_plane.domain.project import DEFAULT_PROJECT_NAME, Project
from control_plane.domain.run import Run
from control_plane.domain.schedule import Schedule
from control_plane.domain.task import Task
from control_plane.domain.template import Template
from control_plane.storage import reads
from control_plane.storage.database import Connection

_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def visible_project(connection: Connection, caller: Caller, id_or_name: str) -> Project:
    """By id or name; empty means "default". Raises NotFound PROJECT_NOT_FOUND, also for a project of others."""
    project = reads.the_project(connection, id_or_name)
    if not caller.principal.may_use(project.id):
        if not id_or_name:
            # That "default" exists is no secret.
            text = f"Name a project: you may not use {DEFAULT_PROJECT_NAME!r}."
            raise NotFound(ErrorCode.PROJECT_NOT_FOUND, text, hint="banksman project list")
        raise reads.no_project(id_or_name)
    return project


def is_whole_id(text: str) -> bool:
    """Whether this names a run by itself: then finding it takes one row, however many there are."""
    return _WHOLE_ID.fullmatch(text.strip()) is not None


def visible_run(connection: Connection, caller: Caller, project: str, text: str) -> Run:
    """By id, short id or "@last": the caller's newest in the project. A short id is looked for in one project.

    Raises NotFound RUN_NOT_FOUND, PROJECT_NOT_FOUND.
    """
    project_id: ProjectId | None = None
    anywhere = is_whole_id(text) or (caller.principal.admin and text.strip().lower() != "@last")
    if project or not anywhere:
        project_id = visible_project(connection, caller, project or _only_project(caller)).id
    run = reads.the_run(connection, text, project_id=project_id, principal_id=caller.principal.id)
    if not caller.principal.may_use(run.project_id) or not sees_run(connection, caller, run):
        raise reads.no_run(text)
    return run


def sees_run(connection: Connection, caller: Caller, run: Run) -> bool:
    """Runs of a task are seen by who sees the task, and by who made them; a purged task's by its makers and admins."""
    if caller.principal.admin or run.task_id is None or run.created_by == caller.principal.id:
        return True
    task = reads.task(connection, run.task_id)
    return task is not None and _sees(caller, task)


def own_run(connection: Connection, caller: Caller, project: str, text: str) -> Run:
    """One that the caller may delete: who made it, its task's owner, and admins. Raises NotFound RUN_NOT_FOUND."""
    run = visible_run(connection, caller, project, text)
    if caller.principal.admin or run.created_by == caller.principal.id:
        return run
    task = None if run.task_id is None else reads.task(connection, run.task_id)
    if task is None or not _owns(caller, task):
        text = f"Run {run.id} is not yours to delete: only who made it, its task's owner and admins may."
        raise NotFound(ErrorCode.RUN_NOT_FOUND, text)
    return run


def visible_task(
    connection: Connection, caller: Caller, project: str, text: str, *, show_deleted: bool = False
) -> Task:
    """The caller's own, or a public one: it may be read and run. Raises NotFound TASK_NOT_FOUND for all others."""
    project_id = visible_project(connection, caller, project).id
    task = reads.find_task(connection, project_id, text)
    if task is None and show_deleted:
        task = reads.find_deleted_task(connection, project_id, text)
    if task is None or not _sees(caller, task):
        raise reads.no_task(text)
    return task


def own_task(connection: Connection, caller: Caller, project: str, text: str, *, deleted: bool = False) -> Task:
    """One that the caller may change: its owner, and admins. Raises NotFound TASK_NOT_FOUND for all others.

    `deleted`: a deleted one if there is one of that name or id, else a living one.
    """
    project_id = visible_project(connection, caller, project).id
    task = reads.find_deleted_task(connection, project_id, text) if deleted else None
    task = task or reads.find_task(connection, project_id, text)
    if task is None or not _sees(caller, task):
        raise reads.no_task(text)
    if not _owns(caller, task):
        raise NotFound(ErrorCode.TASK_NOT_FOUND, _of_another("Task", task.name))
    return task


def visible_template(connection: Connection, caller: Caller, project: str, text: str) -> Template:
    """The caller's own, or a public one, in its newest version. Raises NotFound TEMPLATE_NOT_FOUND for all others."""
    template = reads.find_template(connection, visible_project(connection, caller, project).id, text)
    if template is None or not _sees(caller, template):
        raise reads.no_template(text)
    return template


def own_template(connection: Connection, caller: Caller, project: str, text: str) -> Template:
    """One that the caller may change: its owner, and admins. Raises NotFound TEMPLATE_NOT_FOUND for all others."""
    template = visible_template(connection, caller, project, text)
    if not _owns(caller, template):
        raise NotFound(ErrorCode.TEMPLATE_NOT_FOUND, _of_another("Template", template.name))
    return template


def visible_schedule(connection: Connection, caller: Caller, project: str, text: str) -> Schedule:
    """Of a task that the caller sees. Raises NotFound SCHEDULE_NOT_FOUND."""
    schedule = reads.the_schedule(connection, visible_project(connection, caller, project).id, text)
    task = reads.task(connection, schedule.task_id)
    if task is None or not (_sees(caller, task) or schedule.created_by == caller.principal.id):
        raise reads.no_schedule(text)
    return schedule


def own_schedule(connection: Connection, caller: Caller, project: str, text: str) -> Schedule:
    """One that the caller may change: who made it, its task's owner, and admins. Raises NotFound."""
    schedule = visible_schedule(connection, caller, project, text)
    task = reads.task(connection, schedule.task_id)
    if task is None or not (_owns(caller, task) or schedule.created_by == caller.principal.id):
        raise NotFound(ErrorCode.SCHEDULE_NOT_FOUND, _of_another("Schedule", schedule.name))
    return schedule


def _of_another(kind: str, name: str) -> str:
    """It is no secret that it is there: the caller sees it."""
    return f"{kind} {name!r} is not yours to change: only its owner and admins may."


def tasks_of(caller: Caller) -> PrincipalId | None:
    """Whose tasks a list shows, beside public ones; None for all."""
    return None if caller.principal.admin else caller.principal.id


def _owns(caller: Caller, task: Task | Template) -> bool:
    return caller.principal.admin or task.owner == caller.principal.id


def _sees(caller: Caller, task: Task | Template) -> bool:
    return task.is_public or _owns(caller, task)


def _only_project(caller: Caller) -> str:
    """Where a caller that names no project looks: in its own, if it has just one."""
    projects = caller.principal.project_ids
    return projects[0] if len(projects) == 1 else ""
