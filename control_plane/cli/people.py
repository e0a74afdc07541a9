"""Who made a thing, by name: the contract carries the id of a principal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from control_plane.cli import contract
from control_plane.cli.errors import CliError
from control_plane.cli.invocation import Invocation

if TYPE_CHECKING:
    Made = contract.run_pb2.Run | contract.task_pb2.Task | contract.schedule_pb2.Schedule


def name_maker(inv: Invocation, made: Made) -> None:
    """Put the maker's name where its id is, for a table, if the caller may know it. The other forms keep the id."""
    if inv.output == "table" and made.created_by:
        names = (name for known, name in known_principals(inv) if known == made.created_by)
        made.created_by = next(names, made.created_by)


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
