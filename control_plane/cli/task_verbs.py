"""How a task goes, comes back, and goes for good."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.commands import command, confirm, yes_option
from control_plane.cli.completing import complete_tasks
from control_plane.cli.invocation import Invocation
from control_plane.cli.output import counted
from control_plane.cli.tasks import show


@command("delete", examples=("banksman task delete build --yes",))
@click.argument("task", shell_complete=complete_tasks)
@yes_option
def delete(inv: Invocation, task: str, yes: bool) -> None:
    """Delete a task; its history stays.

    Its schedules stop and its queued runs are cancelled; runs that a runner has finish. `task undelete` brings it back.
    """
    confirm(inv, f"Delete task {task}?", yes=yes)
    request = contract.task_pb2.DeleteTaskRequest(project=inv.project, task=task)
    inv.client.call(inv.client.tasks.DeleteTask, request, repeatable=False)
    inv.say(f"deleted task {task}")


@command("undelete", examples=("banksman task undelete build",))
@click.argument("task")
def undelete(inv: Invocation, task: str) -> None:
    """Bring a deleted task back; by name the one that was deleted last. Its schedules go on from now."""
    request = contract.task_pb2.UndeleteTaskRequest(project=inv.project, task=task)
    show(inv, inv.client.call(inv.client.tasks.UndeleteTask, request, repeatable=False), "undeleted")


@command("delete-runs", examples=("banksman task delete-runs build --yes",))
@click.argument("task", shell_complete=complete_tasks)
@click.option("--deleted-task", is_flag=True, help="Of the deleted task of this name.")
@yes_option
def delete_runs(inv: Invocation, task: str, deleted_task: bool, yes: bool) -> None:
    """Delete all runs of a task, or none while one of them is not over."""
    confirm(inv, f"Delete all runs of task {task}?", yes=yes)
    request = contract.task_pb2.DeleteTaskRunsRequest(project=inv.project, task=task, deleted_task=deleted_task)
    done = inv.client.call(inv.client.tasks.DeleteTaskRuns, request, repeatable=False)
    inv.say(f"deleted {counted(done.deleted_count, 'run')} of task {task}")


@command("purge", examples=("banksman task purge build --yes",))
@click.argument("task")
@yes_option
def purge(inv: Invocation, task: str, yes: bool) -> None:
    """Remove a deleted task and its schedules for good; its runs stay."""
    confirm(inv, f"Remove task {task} for good?", yes=yes)
    request = contract.task_pb2.PurgeTaskRequest(project=inv.project, task=task)
    inv.client.call(inv.client.tasks.PurgeTask, request, repeatable=False)
    inv.say(f"purged task {task}")
