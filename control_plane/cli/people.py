"""Names where the contract carries ids: who made a thing, and which projects somebody may use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from control_plane.cli import contract
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation

if TYPE_CHECKING:
    Made = (
        contract.run_pb2.Run | contract.task_pb2.Task | contract.schedule_pb2.Schedule | contract.template_pb2.Template
    )


def name_maker(inv: Invocation, made: Made) -> None:
    """Put names where ids are, for a table, as far as the caller may know them. The other forms keep the ids."""
    if inv.output != "table":
        return
    fields = [name for name in ("created_by", "owner") if name in made.DESCRIPTOR.fields_by_name]
    missing = {getattr(made, name) for name in fields} - {""}
    names: dict[str, str] = {}
    for known, name in known_principals(inv) if missing else ():
        if known in missing:
            names[known] = name
            missing.remove(known)
        if not missing:
            break
    for field in fields:
        known = getattr(made, field)
        setattr(made, field, names.get(known, known))


def known_principals(inv: Invocation) -> Iterator[tuple[str, str]]:
    """(id, name): first the caller, who needs no right for that, then the others if the caller may list them."""
    client, access = inv.client, contract.access_pb2
    try:
        me = client.call(client.access.WhoAmI, access.WhoAmIRequest(), repeatable=True)
        yield me.id, me.name
        if not me.admin:
            return
        for principal in client.pages(
            client.access.ListPrincipals, access.ListPrincipalsRequest(), lambda page: page.principals
        ):
            yield principal.id, principal.name
    except CliError:
        # A name is a comfort: what was asked for is shown without it.
        return


def with_project_names(
    inv: Invocation, principals: Iterable[contract.access_pb2.Principal]
) -> Iterator[contract.access_pb2.Principal]:
    """Principals with their projects' names, for a table, as far as the caller sees them. Other forms keep ids."""
    names: dict[str, str] | None = None
    for principal in principals:
        if principal.project_ids and inv.output == "table":
            names = known_projects(inv) if names is None else names
            principal.project_ids[:] = [names.get(known, known) for known in principal.project_ids]
        yield principal


def known_projects(inv: Invocation) -> dict[str, str]:
    """Names by id of the projects that the caller sees."""
    client, request = inv.client, contract.project_pb2.ListProjectsRequest()
    try:
        pages = client.pages(client.projects.ListProjects, request, lambda page: page.projects)
        return {project.id: project.name for project in pages}
    except CliError:
        # A name is a comfort: what was asked for is shown without it.
        return {}
