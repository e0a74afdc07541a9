"""What requests say about tasks: every field that has no meaning is named in one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from banksman.v1 import task_pb2

from control_plane.api.convert import SPEC
from control_plane.api.mapping import BadFields, Plan, within
from control_plane.api.masks import unknown_fields
from control_plane.api.records import ASKED_TASK, AskedTask
from control_plane.auth.visibility import tasks_of
from control_plane.domain.errors import FieldViolation
from control_plane.domain.filter_fields import TASK_FIELDS
from control_plane.domain.filters import parse_filter
from control_plane.domain.ids import ProjectId
from control_plane.domain.principal import Caller
from control_plane.domain.spec import RunSpec
from control_plane.lifecycle.tasks import NewTask, TaskChange
from control_plane.storage.reads import TaskFilter

T = TypeVar("T")

WRITABLE = (
    *("name", "description", "spec", "labels", "tags", "active", "variables", "owner", "is_public", "report"),
    *("notifications", "unknown_variables", "allow_shell_substitution", "allowed_overrides"),
)
# Written one by one; the others need a look of their own.
_PLAIN = tuple(name for name in WRITABLE if name not in ("spec", "owner"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[T]):
    """What a request asks for, as far as it has a meaning, and each field that has none."""

    what: T
    wrong: tuple[FieldViolation, ...] = ()


def new_task_of(message: task_pb2.Task, project_id: ProjectId) -> Asked[NewTask]:
    """A new task without its owner."""
    asked, wrong = partly(ASKED_TASK, message, "task", AskedTask())
    spec, wrong_spec = partly(SPEC, message.spec, "task.spec", RunSpec(steps=()))
    new = NewTask(
        project_id=project_id,
        name=asked.name,
        spec=spec,
        description=asked.description,
        labels=dict(asked.labels),
        tags=asked.tags,
        active=asked.active is not False,
        variables=asked.variables,
        unknown_variables=asked.unknown_variables,
        allow_shell_substitution=bool(asked.allow_shell_substitution),
        allowed_overrides=asked.allowed_overrides,
        is_public=bool(asked.is_public),
        report=asked.report,
        notifications=asked.notifications,
        schedules=tuple(schedule.draft() for schedule in asked.schedules),
    )
    return Asked(what=new, wrong=(*wrong, *wrong_spec))


def change_of(request: task_pb2.UpdateTaskRequest) -> Asked[TaskChange]:
    """The change without the owner, whom `owner_of` names."""
    paths, message = request.update_mask.paths, request.task
    wrong = unknown_fields(paths, WRITABLE)
    wanted = frozenset(paths) or frozenset(WRITABLE)
    asked, wrong_fields = partly(ASKED_TASK, message, "task", AskedTask())
    said: dict[str, Any] = {name: getattr(asked, name) for name in _PLAIN if name in wanted}
    if "spec" in wanted:
        said["spec"], wrong_spec = partly(SPEC, message.spec, "task.spec", RunSpec(steps=()))
        wrong += wrong_spec
    return Asked(what=TaskChange(**said, etag=asked.etag), wrong=(*wrong, *wrong_fields))


def owner_of(request: task_pb2.UpdateTaskRequest) -> str:
    """The new owner's id or name; empty when it stays."""
    paths = request.update_mask.paths
    return request.task.owner if not paths or "owner" in paths else ""


def task_filter_of(request: task_pb2.ListTasksRequest, caller: Caller) -> TaskFilter:
    """Raises InvalidArgument that says where the filter is wrong."""
    return TaskFilter(
        name_prefix=request.name_prefix,
        matching=parse_filter(request.filter, TASK_FIELDS),
        visible_to=tasks_of(caller),
        show_deleted=request.show_deleted,
    )


def partly(plan: Plan[T, Any], message: Any, field: str, nothing: T) -> tuple[T, tuple[FieldViolation, ...]]:
    """What the message says, and what of it has no meaning; the rest of it is judged all the same."""
    try:
        return plan.decode(message), ()
    except BadFields as error:
        rest = error.rest if isinstance(error.rest, plan.entity) else nothing
        return rest, tuple(within(field, violation) for violation in error.violations)
