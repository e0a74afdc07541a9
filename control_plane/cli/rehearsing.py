"""A dry run: the control plane is asked for each document whether it would refuse it, and stores nothing.

A schedule whose task is in the files too is asked about together with that task as it would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.comparing import Change
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.kinds import create, update
from control_plane.cli.manifests import Document

# How a schedule's fields are named when it comes with its task, and when it comes alone.
WITH_ITS_TASK, ALONE = "task.schedules[0]", "schedule"


class Rehearsal:
    """Knows the tasks that the files describe: they are not there yet when their schedules are asked about."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._tasks = {(each.project, each.name): each.message for each in documents if each.kind == "Task"}

    def carry_out(self, inv: Invocation, change: Change) -> None:
        """Raises CliError as carrying it out would."""
        document = change.document
        if change.action == "unchanged":
            return
        task = None
        if document.kind == "Schedule":
            task = self._tasks.get((document.project, document.message.task_id))
        if task is not None:
            self._together(inv, change, task)
        elif change.stored is None:
            create(inv, document.kind, change.project, document.message, validate_only=True)
        else:
            stored = change.stored
            update(inv, document.kind, change.project, document.message, change.fields, stored, validate_only=True)

    def _together(self, inv: Invocation, change: Change, task: Any) -> None:
        """Under names that nothing has: what is there already is in nobody's way."""
        whole, schedule = type(task)(), type(change.document.message)()
        whole.CopyFrom(task)
        whole.name = f"dry run {new_request_id()}"
        schedule.CopyFrom(change.document.message)
        schedule.ClearField("task_id")
        if change.stored is not None:
            schedule.name = whole.name
            if "task_id" in change.fields:
                raise CliError(f"schedule {change.document.name} runs another task; delete it to make it anew")
        whole.schedules.append(schedule)
        request = contract.task_pb2.CreateTaskRequest(project=change.project, task=whole, validate_only=True)
        try:
            inv.client.call(inv.client.tasks.CreateTask, request, repeatable=True)
        except CliError as error:
            error.fields = tuple(
                (path.replace(WITH_ITS_TASK, ALONE, 1), why)
                for path, why in error.fields
                if path.startswith(WITH_ITS_TASK)
            )
            # What is wrong with the task itself was said of its own document.
            if error.fields or not error.reason.startswith(("INVALID", "SECRET")):
                raise
