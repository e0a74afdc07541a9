"""Who made a thing, by name: the contract carries the id of a principal."""

from __future__ import annotations

from collections.abc import Iterator
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
