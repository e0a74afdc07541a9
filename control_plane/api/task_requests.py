"""What requests say about tasks: every field that has no meaning is named in one answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from banksman.v1 import task_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from control_plane.api.convert import SPEC
from control_plane.api.mapping import BadFields, Plan, within
from control_plane.api.masks import unknown_fields
from control_plane.api.pages import list_filter
from control_plane.api.records import ASKED_TASK, AskedTask
from control_plane.auth.visibility import tasks_of
from control_plane.domain.errors import FieldViolation
from control_plane.domain.filter_fields import TASK_FIELDS
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
# They need a look of their own, in templates too; the others are taken as they are.
OF_THEIR_OWN = frozenset({"spec", "owner"})


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
    return changed(request.task, "task", request.update_mask.paths, WRITABLE, (ASKED_TASK, AskedTask()), TaskChange)


def changed(
    message: Any,
    field: str,
    paths: Sequence[str],
    writable: tuple[str, ...],
    reading: tuple[Plan[Any, Any], Any],
    change: Callable[..., T],
) -> Asked[T]:
    """What an update of a definition with a spec, a task or a template, writes; `reading`: how, and what none says."""
    wanted = frozenset(paths) or frozenset(writable)
    asked, wrong_fields = partly(reading[0], message, field, reading[1])
    said = {name: getattr(asked, name) for name in writable if name in wanted and name not in OF_THEIR_OWN}
    wrong = (*unknown_fields(paths, writable), *wrong_fields)
    if "spec" in wanted:
        said["spec"], wrong_spec = partly(SPEC, message.spec, f"{field}.spec", RunSpec(steps=()))
        wrong += wrong_spec
    return Asked(what=change(**said, etag=asked.etag), wrong=wrong)


def owner_of(definition: Any, mask: FieldMask) -> str:
    """The id or name of a task's or template's new owner; empty when it stays."""
    return str(definition.owner) if not mask.paths or "owner" in mask.paths else ""


def task_filter_of(request: task_pb2.ListTasksRequest, caller: Caller) -> TaskFilter:
    """Raises InvalidArgument that says where the filter is wrong."""
    return TaskFilter(
        name_prefix=request.name_prefix,
        matching=list_filter(request, TASK_FIELDS),
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
