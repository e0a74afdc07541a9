"""Compare-and-set: an update that counts only while the row is as it was read."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table, Update, bindparam, update


@lru_cache(maxsize=1024)
def _statement(table: Table, changed: tuple[str, ...], guards: tuple[str, ...]) -> Update:
    """Made once for each set of columns, so that a hot verb does not build its statement again."""
    statement = update(table).values({name: bindparam(name) for name in changed})
    return statement.where(*(table.c[name] == bindparam(f"old_{name}") for name in guards))


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
    result = connection.execute(statement, changes | {f"old_{name}": value for name, value in guards.items()})
    return result.rowcount == 1
