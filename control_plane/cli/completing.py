"""Completion of values: ask the control plane for a moment, and say nothing when it does not answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from click import Context, Parameter
from click.shell_completion import CompletionItem

from control_plane.cli import contract
from control_plane.cli.contexts import config_path, read_contexts
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation, invocation
from control_plane.cli.plain import plain
from control_plane.cli.words import run_title, short_id, state_word

if TYPE_CHECKING:
    from control_plane.cli.client import Client

DEADLINE_S = 1.0
MOST = 50
Complete = Callable[[Context, Parameter, str], list[CompletionItem]]
Found = Iterator[tuple[str, str]]


def completer(find: Callable[[Client, str], Found]) -> Complete:
    """A shell_complete callback from a function that yields (value, what it is)."""

    def complete(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
        inv = invocation(ctx)
        inv.flags["rpc_timeout"] = DEADLINE_S
        try:
            found = list(find(inv.client, inv.project))
        except (CliError, OSError):
            return []
        finally:
            inv.close()
        return [CompletionItem(value, help=plain(about)) for value, about in found if value.startswith(incomplete)]

    return complete


def runs(client: Client, project: str) -> Found:
    request = contract.run_pb2.ListRunsRequest(project=project)
    yield "@last", "your newest run in this project"
    for run in client.pages(client.runs.ListRuns, request, lambda page: page.runs, limit=MOST):
        yield short_id(run.id), f"{state_word(run)} {run_title(run)}".strip()


def tasks(client: Client, project: str) -> Found:
    request = contract.task_pb2.ListTasksRequest(project=project)
    for task in client.pages(client.tasks.ListTasks, request, lambda page: page.tasks, limit=MOST):
        yield task.name, task.description


def templates(client: Client, project: str) -> Found:
    request = contract.template_pb2.ListTemplatesRequest(project=project)
    for template in client.pages(client.templates.ListTemplates, request, lambda page: page.templates, limit=MOST):
        yield template.name, template.description


def schedules(client: Client, project: str) -> Found:
    request = contract.schedule_pb2.ListSchedulesRequest(project=project)
    for schedule in client.pages(client.schedules.ListSchedules, request, lambda page: page.schedules, limit=MOST):
        yield schedule.name, schedule.task_name


def runners(client: Client, project: str) -> Found:
    request = contract.runner_pb2.ListRunnersRequest()
    for runner in client.pages(client.runners.ListRunners, request, lambda page: page.runners, limit=MOST):
        yield runner.name, "connected" if runner.connected else "disconnected"


def projects(client: Client, project: str) -> Found:
    request = contract.project_pb2.ListProjectsRequest()
    for found in client.pages(client.projects.ListProjects, request, lambda page: page.projects, limit=MOST):
        yield found.name, found.description


def secrets(client: Client, project: str) -> Found:
    request = contract.secret_pb2.ListSecretsRequest(project=project)
    for secret in client.pages(client.secrets.ListSecrets, request, lambda page: page.secrets, limit=MOST):
        yield secret.name, ""


def complete_contexts(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the stored contexts; asks nobody."""
    inv: Invocation = invocation(ctx)
    try:
        file = read_contexts(config_path(inv.environ))
    except CliError:
        return []
    return [
        CompletionItem(name, help=stored.url) for name, stored in file.contexts.items() if name.startswith(incomplete)
    ]


complete_runs = completer(runs)
complete_tasks = completer(tasks)
complete_templates = completer(templates)
complete_schedules = completer(schedules)
complete_runners = completer(runners)
complete_projects = completer(projects)
complete_secrets = completer(secrets)
