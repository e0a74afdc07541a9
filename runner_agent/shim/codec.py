"""JSON for the frozen dataclasses of this room: strict about types, silent about fields that it does not know.

What there is to know of a class is worked out once, before the first fork (`warm`): a shim that is forked then reads
little of its memory, and so copies little of it.
"""

from __future__ import annotations

import binascii
import dataclasses
import json
import types
import typing
from collections.abc import Callable
from enum import StrEnum

JsonObject = dict[str, object]
T = typing.TypeVar("T")
Convert = Callable[[object, str], object]


# Made once: `json.dumps` and `json.loads` make them anew, or guess an encoding, each time.
compact_json = json.JSONEncoder(separators=(",", ":")).encode
read_json = json.JSONDecoder().decode


class BadMessage(ValueError):
    """Something that was read does not have the shape that it should have."""


_AS_IT_IS = frozenset({str, int, float, bool, type(None)})
_names_by_kind: dict[type, tuple[str, ...]] = {}


def to_json(value: object) -> object:
    """A dataclass (or a part of one) as JSON values: bytes in base64, sets sorted, enums by value."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    names = _names_by_kind.get(kind)
    if names is not None:
        return {name: to_json(getattr(value, name)) for name in names}
    return _other_to_json(kind, value)


def _other_to_json(kind: type, value: object) -> object:
    if isinstance(value, tuple | list):
        return [to_json(part) for part in value]
    if isinstance(value, dict):
        return {str(key): to_json(part) for key, part in value.items()}
    if isinstance(value, bytes):
        return binascii.b2a_base64(value, newline=False).decode("ascii")
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, frozenset):
        return sorted(value)
    if dataclasses.is_dataclass(kind):
        _names_by_kind[kind] = tuple(field.name for field in dataclasses.fields(kind))
        return to_json(value)
    return value


def from_json(kind: type[T], value: object) -> T:
    """The dataclass `kind` from JSON values. Unknown fields are skipped, missing ones take their default.

    Raises BadMessage for anything that does not fit.
    """
    if not isinstance(value, dict):
        raise BadMessage(f"{kind.__name__}: not an object")
    arguments: dict[str, object] = {}
    for name, exact, convert, where in _plans.get(kind) or _plan(kind):
        if name in value:
            given = value[name]
            arguments[name] = given if type(given) is exact else convert(given, where)
    try:
        return kind(**arguments)
    except TypeError as error:
        raise BadMessage(f"{kind.__name__}: {error}") from None


# For each field: its name, the type whose values are taken as they are, what converts all others, and its full name.
_Plan = tuple[tuple[str, type | None, Convert, str], ...]
_plans: dict[type, _Plan] = {}


def warm(*kinds: type[object]) -> None:
    """Work out how these dataclasses are read and written: before a fork it is done once for all."""
    for kind in kinds:
        _plan(kind)
        _names_by_kind[kind] = tuple(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]


def _plan(kind: type[object]) -> _Plan:
    known = _plans.get(kind)
    if known is None:
        hints = typing.get_type_hints(kind).items()
        known = _plans[kind] = tuple((name, *_reader(hint), f"{kind.__name__}.{name}") for name, hint in hints)
    return known


def _reader(hint: object) -> tuple[type | None, Convert]:
    """The type whose values need no conversion, and what converts or refuses all others."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        exact, convert = _reader(next(part for part in parts if part is not type(None)))
        return exact, _optional(exact, convert)
    if origin is dict:
        return None, _dictionary(*_reader(parts[1]))
    if origin is frozenset:
        return None, _set(*_reader(parts[0]))
    if origin is tuple and len(parts) == 2 and parts[1] is ...:
        return None, _tuple(*_reader(parts[0]))
    if origin is tuple:
        return None, _fixed_tuple(tuple(_reader(part) for part in parts))
    if not isinstance(hint, type):
        return None, _unsupported
    return _scalar(hint)


def _scalar(kind: type) -> tuple[type | None, Convert]:
    if dataclasses.is_dataclass(kind):
        warm(kind)
        return None, lambda value, _: from_json(kind, value)
    if kind is bytes:
        return None, _bytes
    if issubclass(kind, StrEnum):
        return None, _member(kind)
    return kind, _number if kind is float else _refuse(kind)


def _optional(exact: type | None, convert: Convert) -> Convert:
    def read(value: object, where: str) -> object:
        return value if value is None or type(value) is exact else convert(value, where)

    return read


def _dictionary(exact: type | None, convert: Convert) -> Convert:
    def read(value: object, where: str) -> object:
        if not isinstance(value, dict):
            raise BadMessage(f"{where}: not a list")
        return {str(key): part if type(part) is exact else convert(part, where) for key, part in value.items()}

    return read


def _set(exact: type | None, convert: Convert) -> Convert:
    def read(value: object, where: str) -> object:
        return frozenset(part if type(part) is exact else convert(part, where) for part in _list(value, where))

    return read


def _tuple(exact: type | None, convert: Convert) -> Convert:
    def read(value: object, where: str) -> object:
        return tuple([part if type(part) is exact else convert(part, where) for part in _list(value, where)])

    return read


def _fixed_tuple(readers: tuple[tuple[type | None, Convert], ...]) -> Convert:
    def read(value: object, where: str) -> object:
        given = _list(value, where)
        if len(given) != len(readers):
            raise BadMessage(f"{where}: wrong length or type")
        pairs = zip(given, readers, strict=True)
        return tuple([part if type(part) is exact else convert(part, where) for part, (exact, convert) in pairs])

    return read


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise BadMessage(f"{where}: not a list")
    return value


def _bytes(value: object, where: str) -> object:
    if not isinstance(value, str):
        raise BadMessage(f"{where}: expected bytes")
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        raise BadMessage(f"{where}: not base64") from None


def _member(kind: type[StrEnum]) -> Convert:
    members = {member.value: member for member in kind}

    def read(value: object, where: str) -> object:
        member = members.get(value) if isinstance(value, str) else None
        if member is None:
            raise BadMessage(f"{where}: unknown value")
        return member

    return read


def _number(value: object, where: str) -> object:
    if type(value) is not int:
        raise BadMessage(f"{where}: expected float")
    return float(value)


def _refuse(kind: type) -> Convert:
    def read(_: object, where: str) -> object:
        raise BadMessage(f"{where}: expected {kind.__name__}")

    return read


def _unsupported(_: object, where: str) -> object:
    raise BadMessage(f"{where}: unsupported type")
