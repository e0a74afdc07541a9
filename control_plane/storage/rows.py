"""Rows to entities and back, by the types of an entity's fields. Pure.

A column is named like its field. Times are stored as microseconds since 1970, enums by name, and whatever has
parts (mappings, tuples, small dataclasses) as JSON text.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from itertools import compress
from operator import attrgetter, is_not
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import Row, Table

from control_plane.domain.copies import maker, setters

E = TypeVar("E")
AnyRow: TypeAlias = Row[*tuple[Any, ...]] | Sequence[Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# JSON texts whose values are remembered, of each column; longer ones are not.
_TEXTS_KEPT = 256
_SHORT_TEXT = 1_024
_Convert = Callable[[Any], Any]


def to_us(at: datetime) -> int:
    """Microseconds since 1970 of an aware time; whole numbers, so that nothing is rounded."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def us_or_none(at: datetime | None) -> int | None:
    return None if at is None else to_us(at)


def at_or_none(us: int | None) -> datetime | None:
    return None if us is None else from_us(us)


def json_text(value: object) -> str:
    """Equal values give equal texts."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class Shape(Generic[E]):
    """How one kind of entity lies in its table. Fields without a column are left to readers."""

    def __init__(self, entity: type[E], table: Table) -> None:
        hints = typing.get_type_hints(entity)
        columns = set(table.c.keys())
        names = [field.name for field in dataclasses.fields(entity) if field.name in columns]  # type: ignore[arg-type]
        self.table = table
        self.columns = tuple(table.c[name] for name in names)
        self.entity_fields = tuple(hints)
        self._entity = entity
        self._store = tuple((name, _flat(hints[name])[0]) for name in names)
        self._fields: Callable[[E], tuple[Any, ...]] = attrgetter(*names)
        self._load = _loader(entity, {name: _flat(hints[name])[1] for name in names})
        self._set = setters(typing.cast(Any, entity))

    def entity(self, row: AnyRow, **more: object) -> E:
        """The entity in a row whose first columns are `self.columns`; `more` are fields that have no column."""
        made: E = self._load(row)
        for name, value in more.items():
            self._set[name](made, value)
        return made

    def values(self, entity: E, **more: object) -> dict[str, object]:
        """All columns of an entity, for an insert."""
        fields = self._fields(entity)
        return {name: store(value) for (name, store), value in zip(self._store, fields, strict=True)} | more

    def changes(self, old: E, new: E) -> dict[str, object]:
        """The columns in which `new` differs from `old`."""
        if old is new:
            return {}
        before, after = self._fields(old), self._fields(new)
        # Mostly the very same objects: what is left to look at is little.
        moved = compress(zip(self._store, before, after, strict=True), map(is_not, before, after))
        return {name: store(value) for (name, store), was, value in moved if value != was}


def _loader(entity: type[Any], loads: dict[str, _Convert]) -> _Convert:
    """Makes an entity of a row: its first values are the columns of `loads`, in that order."""
    lines = {}
    known: dict[str, object] = {}
    for index, (name, load) in enumerate(loads.items()):
        lines[name] = f"row[{index}]" if load is _same else f"load_{name}(row[{index}])"
        known[f"load_{name}"] = load
    for field in dataclasses.fields(entity):
        if field.name in loads:
            continue
        if field.default_factory is not dataclasses.MISSING:
            lines[field.name], known[f"default_{field.name}"] = f"default_{field.name}()", field.default_factory
        elif field.default is not dataclasses.MISSING:
            lines[field.name], known[f"default_{field.name}"] = f"default_{field.name}", field.default
    return maker(entity, "row", lines, known)


def _same(value: Any) -> Any:
    return value


def _bare(hint: Any) -> tuple[Any, bool]:
    """A hint without NewType and without None, and whether None was allowed."""
    optional = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        if len(members) != 1:
            raise TypeError(f"{hint} has no column type")
        hint, optional = members[0], True
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    return hint, optional


def reader_of(hint: Any) -> Callable[[Any], Any]:
    """How a column's value becomes what the hint says; for queries that read no whole entity."""
    return _flat(hint)[1]


@cache
def _flat(hint: Any) -> tuple[_Convert, _Convert]:
    """(to a column's value, from it)."""
    bare, optional = _bare(hint)
    store, load = _nested(bare)
    if not _is_scalar(bare):
        inner_store, inner_load = store, load
        is_tuple = typing.get_origin(bare) is tuple
        # Most rows say the same few things there. A mapping could be changed by who gets it: each has its own.
        parsed = lru_cache(maxsize=_TEXTS_KEPT)(lambda text: inner_load(json.loads(text)))
        shared = typing.get_origin(bare) is not Mapping

        def store(value: Any) -> Any:
            return "[]" if is_tuple and not value else json_text(inner_store(value))

        def load(value: Any) -> Any:
            if is_tuple and value == "[]":
                return ()
            if shared and len(value) <= _SHORT_TEXT:
                return parsed(value)
            return inner_load(json.loads(value))

    return _allow_none(store, load) if optional else (store, load)


def _is_scalar(bare: Any) -> bool:
    return bare in (str, int, float, bool, bytes, datetime) or (isinstance(bare, type) and issubclass(bare, StrEnum))


@cache
def _nested(hint: Any) -> tuple[_Convert, _Convert]:
    """(to a JSON value, from it)."""
    bare, optional = _bare(hint)
    if optional:
        return _allow_none(*_nested(bare))
    origin = typing.get_origin(bare)
    if bare is bool:
        # Not every database has truth values of its own.
        return _same, bool
    if bare in (str, int, float, bytes):
        return _same, _same
    if bare is datetime:
        return to_us, from_us
    if origin is tuple:
        store, load = _nested(typing.get_args(bare)[0])
        return lambda value: [store(item) for item in value], lambda value: tuple(load(item) for item in value)
    if origin is Mapping:
        return dict, dict
    if isinstance(bare, type) and issubclass(bare, StrEnum):
        return str, _Members(bare).__getitem__
    if dataclasses.is_dataclass(bare) and isinstance(bare, type):
        return _structure(bare)
    raise TypeError(f"{hint} has no column type")


class _Members(dict[str, StrEnum]):
    """An enum's members by their values, found at a quarter of the cost of a call."""

    def __init__(self, of: type[StrEnum]) -> None:
        super().__init__((member.value, member) for member in of)
        self._of = of

    def __missing__(self, value: str) -> StrEnum:
        return self._of(value)


def _structure(entity: type[Any]) -> tuple[_Convert, _Convert]:
    hints = typing.get_type_hints(entity)
    parts = [(field.name, *_nested(hints[field.name])) for field in dataclasses.fields(entity)]

    def store(value: Any) -> Any:
        return {name: put(getattr(value, name)) for name, put, _ in parts}

    def load(value: Any) -> Any:
        # A field that is younger than the row keeps its default.
        return entity(**{name: get(value[name]) for name, _, get in parts if name in value})

    return store, load


def _allow_none(store: _Convert, load: _Convert) -> tuple[_Convert, _Convert]:
    return (
        lambda value: None if value is None else store(value),
        lambda value: None if value is None else load(value),
    )
