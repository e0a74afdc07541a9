"""Tasks: saved definitions of what to run."""

from __future__ import annotations

from typing import Any

import click

from control_plane.cli import contract
from control_plane.cli.clearing import clear as cleared
from control_plane.cli.clearing import clear_option
from control_plane.cli.client import new_request_id
from control_plane.cli.commands import command
from control_plane.cli.completing import complete_tasks
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation
from control_plane.cli.people import name_maker
from control_plane.cli.schedule_options import rule_options, set_rule
from control_plane.cli.spec_file import read_task_file
from control_plane.cli.spec_options import SpecOptions, assign, build_spec, spec_options
from control_plane.cli.task_options import change, task_options
from control_plane.cli.task_views import TASK

file_option = click.option("-f", "--file", metavar="FILE", help="YAML or JSON of a task or a spec; - is stdin.")


@command(
    "create",
    context_settings={"allow_interspersed_args": True},
    examples=(
        "banksman task create build --label os=linux --timeout 30m -- make all",
        "banksman task create deploy --var stage=test --public -- ./deploy.sh '{{ stage }}'",
        "banksman task create nightly --cron '0 3 * * *' -f nightly.yaml",
    ),
)
@click.argument("name")
@file_option
@task_options
@click.option("--inactive", is_flag=True, help="Not to be run yet.")
@rule_options
@spec_options
def create(inv: Invocation, name: str, file: str | None, inactive: bool, given: SpecOptions, **about: Any) -> None:
    """Save a task, from a command line or a file."""
    task = contract.task_pb2.Task(active=True)
    if file is not None:
        task, fields = read_task_file(file)
        task.active = task.active if "active" in fields else True
        task.ClearField("etag")
    assign(task, "name", name)
    change(task, about)
    schedule = contract.schedule_pb2.Schedule()
    if set_rule(inv, schedule, about):
        task.schedules.append(schedule)
    task.spec.CopyFrom(build_spec(inv, given, task.spec))
    if not task.spec.steps and not task.spec.HasField("coding_agent"):
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


@command(
    "list",
    examples=(
        "banksman task list --tag nightly",
        "banksman task list --filter 'scheduled = true AND NOT owner = ann' -o name",
    ),
)
@click.option("--prefix", default="", help="Names that begin with this.")
@click.option("--filter", "text", default="", metavar="FILTER", help="Such as: tag : nightly AND active = true.")
@click.option("--tag", multiple=True, metavar="TAG", help="With this tag; repeatable.")
@click.option("--deleted", is_flag=True, help="Deleted ones too.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_tasks(inv: Invocation, prefix: str, text: str, tag: tuple[str, ...], deleted: bool, limit: int | None) -> None:
    """List the project's tasks: your own and public ones."""
    request = contract.task_pb2.ListTasksRequest(project=inv.project, name_prefix=prefix, show_deleted=deleted)
    assign(request, "filter", with_tags(text, tag))
    found = inv.client.pages(inv.client.tasks.ListTasks, request, lambda page: page.tasks, limit=limit)
    inv.printer.rows(found, TASK)


def with_tags(text: str, tags: tuple[str, ...]) -> str:
    """A filter that wants these tags too."""
    quoted = ('"' + tag.replace("\\", "\\\\").replace('"', '\\"') + '"' for tag in tags)
    parts = [*([f"({text})"] if text.strip() else []), *(f"tag : {tag}" for tag in quoted)]
    return " AND ".join(parts)


def fetch(inv: Invocation, name: str, *, deleted: bool = False) -> contract.task_pb2.Task:
    request = contract.task_pb2.GetTaskRequest(project=inv.project, task=name, show_deleted=deleted)
    return inv.client.call(inv.client.tasks.GetTask, request, repeatable=True)


@command("get", examples=("banksman task get build", "banksman task get build -o yaml > build.yaml"))
@click.argument("task", shell_complete=complete_tasks)
@click.option("--deleted", is_flag=True, help="Also if it was deleted.")
def get(inv: Invocation, task: str, deleted: bool) -> None:
    """Show a task; as YAML it can be edited and given back to update."""
    found = fetch(inv, task, deleted=deleted)
    name_maker(inv, found)
    inv.printer.one(found, TASK)


@command(
    "update",
    examples=(
        "banksman task update build --timeout 45m",
        "banksman task update build --clear timeout --clear tag --tag nightly",
        "banksman task update build -f build.yaml",
    ),
)
@click.argument("task", shell_complete=complete_tasks)
@file_option
@task_options
@click.option("--name", metavar="NAME", help="New name.")
@click.option("--active/--inactive", default=None, help="Whether it may be run.")
@clear_option
@spec_options
def update(
    inv: Invocation,
    task: str,
    file: str | None,
    name: str | None,
    active: bool | None,
    clear: tuple[str, ...],
    given: SpecOptions,
    **about: Any,
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
        mask |= fields - {"schedules"}
    mask |= cleared(fresh, clear)
    mask.update(change(fresh, about))
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
