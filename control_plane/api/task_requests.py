"""What requests say about tasks: every field that has no meaning is named in one answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from banksman.v1 import task_pb2

from control_plane.api.convert import SPEC, decoded
from control_plane.api.masks import wanted_fields
from control_plane.api.records import ASKED_TASK, AskedTask
from control_plane.auth.visibility import tasks_of
from control_plane.domain.errors import FieldViolation, InvalidArgument, invalid_fields
from control_plane.domain.filter_fields import TASK_FIELDS
from control_plane.domain.filters import parse_filter
from control_plane.domain.ids import PrincipalId, ProjectId
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


def new_task_of(message: task_pb2.Task, project_id: ProjectId, owner: PrincipalId | None) -> NewTask:
    """Raises InvalidArgument."""
    asked, spec = _decoded(message, with_spec=True)
    return NewTask(
        project_id=project_id,
        name=asked.name,
        spec=spec or RunSpec(steps=()),
        description=asked.description,
        labels=asked.labels,
        tags=asked.tags,
        active=asked.active is not False,
        variables=asked.variables,
        unknown_variables=asked.unknown_variables,
        allow_shell_substitution=bool(asked.allow_shell_substitution),
        allowed_overrides=asked.allowed_overrides,
        owner=owner,
        is_public=bool(asked.is_public),
        report=asked.report,
        notifications=asked.notifications,
        schedules=tuple(schedule.draft() for schedule in asked.schedules),
    )


def change_of(request: task_pb2.UpdateTaskRequest) -> tuple[TaskChange, str]:
    """The change, and the owner's id or name (empty: it stays). Raises InvalidArgument."""
    wanted = wanted_fields(request.update_mask.paths, WRITABLE)
    asked, spec = _decoded(request.task, with_spec="spec" in wanted)
    said = {name: getattr(asked, name) for name in _PLAIN if name in wanted}
    return TaskChange(**said, spec=spec, etag=asked.etag), asked.owner if "owner" in wanted else ""


def task_filter_of(request: task_pb2.ListTasksRequest, caller: Caller) -> TaskFilter:
    """Raises InvalidArgument that says where the filter is wrong."""
    return TaskFilter(
        name_prefix=request.name_prefix,
        matching=parse_filter(request.filter, TASK_FIELDS),
        visible_to=tasks_of(caller),
        show_deleted=request.show_deleted,
    )


def _decoded(message: task_pb2.Task, *, with_spec: bool) -> tuple[AskedTask, RunSpec | None]:
    """Both parts are looked at before either is refused."""
    bad: list[FieldViolation] = []
    asked = _kept(bad, lambda: decoded(ASKED_TASK, message, "task"))
    spec = _kept(bad, lambda: decoded(SPEC, message.spec, "task.spec")) if with_spec else None
    if bad or asked is None:
        raise invalid_fields(*bad)
    return replace(asked, labels=dict(asked.labels)), spec


def _kept(bad: list[FieldViolation], decode: Callable[[], T]) -> T | None:
    try:
        return decode()
    except InvalidArgument as refused:
        bad += refused.violations
        return None
