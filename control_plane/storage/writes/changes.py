"""Compare-and-set: an update that counts only while the row is as it was read."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam, update

from control_plane.storage.prepared import Prepared


@lru_cache(maxsize=1024)
def _statement(table: Table, changed: tuple[str, ...], guards: tuple[str, ...]) -> Prepared:
    """Made once for each set of columns, so that a hot verb does not build its statement again."""
    statement = update(table).values({name: bindparam(name) for name in changed})
    return Prepared(statement.where(*(table.c[name] == bindparam(f"old_{name}") for name in guards)))


def compare_and_set(
    connection: Connection, table: Table, changes: dict[str, Any], guards: dict[str, Any], *, must: bool = False
) -> bool:
    """Writes `changes` to the one row whose columns equal `guards`; whether there was such a row.

    Without changes nothing is asked of the database, unless `must` says that the guards decide.
    """
    if not changes:
        if not must:
            return True
        changes = dict(guards)
    statement = _statement(table, tuple(sorted(changes)), tuple(guards))
    parameters = changes | {f"old_{name}": value for name, value in guards.items()}
    return statement.run(connection, parameters).rowcount == 1
