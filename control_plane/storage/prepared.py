"""Statements that run all the time: compiled once, then given to the driver as they are.

SQLAlchemy's own execution costs several times what SQLite needs for a small statement. Here it only writes the SQL;
rows are plain tuples, in the order of the selected columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol

from sqlalchemy import ClauseElement, Connection, Dialect
from sqlalchemy.exc import DBAPIError

_NOTHING: Mapping[str, Any] = {}


class Cursor(Protocol):
    """What every driver's cursor can do."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Sequence[Any] | None: ...
    def fetchall(self) -> Sequence[Sequence[Any]]: ...


class Prepared:
    """One statement. Its parameters are the names of its bindparams; those with a value of their own may be left out.

    Not for IN lists whose length changes. Errors of the driver come as SQLAlchemy's, as from any other statement.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._dialect = ""
        self._sql = ""
        # (name, default) in the order of the question marks; None where the driver takes names.
        self._order: tuple[tuple[str, Any], ...] | None = None
        # The same at a fraction of the cost, where every parameter is given.
        self._pick: Callable[[Mapping[str, Any]], Sequence[Any]] = _nothing
        self._defaults: Mapping[str, Any] = _NOTHING

    def run(self, connection: Connection, parameters: Mapping[str, Any] = _NOTHING) -> Cursor:
        """Executes it and returns the driver's cursor."""
        sql, given = self.bound(connection.dialect, parameters)
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        try:
            cursor.execute(sql, given)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _wrapped(sql, error, connection.dialect) from error
        made: Cursor = cursor
        return made

    def bound(self, dialect: Dialect, parameters: Mapping[str, Any]) -> tuple[str, Any]:
        """The SQL and the parameters as the driver takes them."""
        if dialect.name != self._dialect:
            self._compile(dialect)
        if self._order is None:
            return self._sql, {**self._defaults, **parameters}
        try:
            return self._sql, self._pick(parameters)
        except KeyError:
            return self._sql, tuple([parameters.get(name, default) for name, default in self._order])

    def one(self, connection: Connection, parameters: Mapping[str, Any] = _NOTHING) -> Sequence[Any] | None:
        """The first row; None if there is none."""
        return self.run(connection, parameters).fetchone()

    def all(self, connection: Connection, parameters: Mapping[str, Any] = _NOTHING) -> Sequence[Sequence[Any]]:
        return self.run(connection, parameters).fetchall()

    def _compile(self, dialect: Dialect) -> None:
        compiled: Any = self._statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self._sql = str(compiled)
        self._defaults = dict(compiled.params)
        positions = compiled.positiontup
        self._order = None if positions is None else tuple((name, self._defaults[name]) for name in positions)
        self._pick = _picker(positions or ())
        # Last: another thread may see the name and use the rest at once.
        self._dialect = dialect.name


def _nothing(_: Mapping[str, Any]) -> Sequence[Any]:
    return ()


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """Values by name, in this order. Raises KeyError when one is not given."""
    if not names:
        return _nothing
    if len(names) == 1:
        only = names[0]
        return lambda parameters: (parameters[only],)
    return itemgetter(*names)


def _wrapped(sql: str, error: Exception, dialect: Dialect) -> BaseException:
    """The driver's error in SQLAlchemy's dress, without parameters: they may be what a user typed."""
    base = dialect.loaded_dbapi.Error
    return DBAPIError.instance(sql, None, error, base, hide_parameters=True, dialect=dialect)
