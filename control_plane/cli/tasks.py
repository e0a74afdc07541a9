"""Tasks: saved definitions of what to run."""

from __future__ import annotations

import click

from control_plane.cli import contract
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import command, confirm, key_values, yes_option
from control_plane.cli.completing import complete_tasks
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.people import name_maker
from control_plane.cli.spec_file import read_task_file
from control_plane.cli.spec_options import SpecOptions, assign, build_spec, spec_options
from control_plane.cli.views import TASK

file_option = click.option("-f", "--file", metavar="FILE", help="YAML or JSON of a task or a spec; - is stdin.")
description_option = click.option("--description", metavar="TEXT", help="What it is for.")
tag_option = click.option("--tag", multiple=True, metavar="TAG", help="Tag; repeatable.")
task_label_option = click.option("--task-label", multiple=True, metavar="K=V", help="Label of the task itself.")


@command(
    "create",
    context_settings={"allow_interspersed_args": True},
    examples=(
        "banksman task create build --label os=linux --timeout 30m -- make all",
        "banksman task create nightly -f nightly.yaml",
    ),
)
@click.argument("name")
@file_option
@description_option
@tag_option
@task_label_option
@click.option("--inactive", is_flag=True, help="Not to be run yet.")
@spec_options
def create(
    inv: Invocation,
    name: str,
    file: str | None,
    description: str | None,
    tag: tuple[str, ...],
    task_label: tuple[str, ...],
    inactive: bool,
    given: SpecOptions,
) -> None:
    """Save a task, from a command line or a file."""
    task = contract.task_pb2.Task(active=True)
    if file is not None:
        task, fields = read_task_file(file)
        task.active = task.active if "active" in fields else True
        task.ClearField("etag")
    assign(task, "name", name)
    change(task, description, tag, task_label)
    task.spec.CopyFrom(build_spec(inv, given, task.spec))
    if not task.spec.steps:
        raise CliError("there is nothing to run", next_command=f"banksman task create {name} -- CMD...")
    if inactive:
        task.active = False
    request = contract.task_pb2.CreateTaskRequest(project=inv.project, task=task, request_id=new_request_id())
    created = inv.client.call(inv.client.tasks.CreateTask, request, repeatable=True)
    show(inv, created, "created")


def show(inv: Invocation, task: contract.task_pb2.Task, what: str) -> None:
    """Say what became of it; the task itself where it was asked for."""
    inv.say(f"{what} task {task.name}")
    if inv.output != "table":
        inv.printer.one(task, TASK)
    elif what == "created":
        inv.printer.write(task.id)


def change(
    task: contract.task_pb2.Task, description: str | None, tags: tuple[str, ...], labels: tuple[str, ...]
) -> list[str]:
    """Set what was given; the names of those fields."""
    changed = []
    if description is not None:
        assign(task, "description", description)
        changed.append("description")
    if tags:
        task.tags[:] = tags
        changed.append("tags")
    if labels:
        task.labels.clear()
        task.labels.update(key_values(labels, "--task-label"))
        changed.append("labels")
    return changed


@command("list", examples=("banksman task list", "banksman task list --prefix night -o name"))
@click.option("--prefix", default="", help="Names that begin with this.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_tasks(inv: Invocation, prefix: str, limit: int | None) -> None:
    """List the project's tasks."""
    request = contract.task_pb2.ListTasksRequest(project=inv.project, name_prefix=prefix)
    found = inv.client.pages(inv.client.tasks.ListTasks, request, lambda page: page.tasks, limit=limit)
    inv.printer.rows(found, TASK)


def fetch(inv: Invocation, name: str) -> contract.task_pb2.Task:
    request = contract.task_pb2.GetTaskRequest(project=inv.project, task=name)
    return inv.client.call(inv.client.tasks.GetTask, request, repeatable=True)


@command("get", examples=("banksman task get build", "banksman task get build -o yaml > build.yaml"))
@click.argument("task", shell_complete=complete_tasks)
def get(inv: Invocation, task: str) -> None:
    """Show a task; as YAML it can be edited and given back to update."""
    found = fetch(inv, task)
    name_maker(inv, found)
    inv.printer.one(found, TASK)


@command(
    "update",
    examples=("banksman task update build --timeout 45m", "banksman task update build -f build.yaml"),
)
@click.argument("task", shell_complete=complete_tasks)
@file_option
@description_option
@tag_option
@task_label_option
@click.option("--name", metavar="NAME", help="New name.")
@click.option("--active/--inactive", default=None, help="Whether it may be run.")
@spec_options
def update(
    inv: Invocation,
    task: str,
    file: str | None,
    description: str | None,
    tag: tuple[str, ...],
    task_label: tuple[str, ...],
    name: str | None,
    active: bool | None,
    given: SpecOptions,
) -> None:
    """Change a task; what is not given stays. Refused when somebody else changed it meanwhile."""
    stored = fetch(inv, task)
    fresh = contract.task_pb2.Task()
    fresh.CopyFrom(stored)
    mask: set[str] = set()
    if file is not None:
        read, fields = read_task_file(file)
        for field in fields:
            fresh.ClearField(field)  # type: ignore[arg-type]
        fresh.MergeFrom(read)
        mask |= fields
    mask.update(change(fresh, description, tag, task_label))
    if name is not None:
        assign(fresh, "name", name)
        mask.add("name")
    if active is not None:
        fresh.active = active
        mask.add("active")
    spec = build_spec(inv, given, fresh.spec)
    if spec != fresh.spec:
        fresh.spec.CopyFrom(spec)
        mask.add("spec")
    if not mask:
        raise CliError("nothing to change was given", next_command="banksman task update --help")
    request = contract.task_pb2.UpdateTaskRequest(project=inv.project, task=fresh)
    request.task.id = stored.id
    request.update_mask.paths.extend(sorted(mask))
    updated = inv.client.call(inv.client.tasks.UpdateTask, request, repeatable=False)
    show(inv, updated, "updated")


@command("delete", examples=("banksman task delete build --yes",))
@click.argument("task", shell_complete=complete_tasks)
@yes_option
def delete(inv: Invocation, task: str, yes: bool) -> None:
    """Delete a task; its queued runs are cancelled, its history stays."""
    confirm(inv, f"Delete task {task}?", yes=yes)
    request = contract.task_pb2.DeleteTaskRequest(project=inv.project, task=task)
    inv.client.call(inv.client.tasks.DeleteTask, request, repeatable=False)
    inv.say(f"deleted task {task}")
