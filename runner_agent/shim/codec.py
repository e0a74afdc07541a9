"""JSON for the frozen dataclasses of this room: strict about types, silent about fields that it does not know."""

from __future__ import annotations

import base64
import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import StrEnum

JsonObject = dict[str, object]
T = typing.TypeVar("T")


class BadMessage(ValueError):
    """Something that was read does not have the shape that it should have."""


def to_json(value: object) -> object:
    """A dataclass (or a part of one) as JSON values: bytes in base64, sets sorted, enums by value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [to_json(part) for part in value]
    if isinstance(value, dict):
        return {str(key): to_json(part) for key, part in value.items()}
    return value


def from_json(kind: type[T], value: object) -> T:
    """The dataclass `kind` from JSON values. Unknown fields are skipped, missing ones take their default.

    Raises BadMessage for anything that does not fit.
    """
    if not isinstance(value, Mapping):
        raise BadMessage(f"{kind.__name__}: not an object")
    arguments: dict[str, object] = {}
    for name, hint in _hints(kind).items():
        if name in value:
            arguments[name] = _convert(hint, value[name], f"{kind.__name__}.{name}")
    try:
        return kind(**arguments)
    except TypeError as error:
        raise BadMessage(f"{kind.__name__}: {error}") from None


_hints_by_kind: dict[object, dict[str, object]] = {}


def warm(*kinds: type[object]) -> None:
    """Resolve the types of these dataclasses now: before a fork it is done once for all."""
    for kind in kinds:
        for hint in _hints(kind).values():
            for part in (hint, *typing.get_args(hint)):
                if isinstance(part, type) and dataclasses.is_dataclass(part):
                    warm(part)


def _hints(kind: type[T]) -> dict[str, object]:
    known = _hints_by_kind.get(kind)
    if known is None:
        known = _hints_by_kind[kind] = dict(typing.get_type_hints(kind))
    return known


def _convert(hint: object, value: object, where: str) -> object:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(_only(hint), value, where)
    if origin is not None:
        return _convert_collection(origin, typing.get_args(hint), value, where)
    if not isinstance(hint, type):
        raise BadMessage(f"{where}: unsupported type")
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)
    return _convert_scalar(hint, value, where)


def _only(hint: object) -> object:
    """The X of `X | None`."""
    return next(part for part in typing.get_args(hint) if part is not type(None))


def _convert_collection(origin: object, parts: tuple[object, ...], value: object, where: str) -> object:
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _convert(parts[1], part, where) for key, part in value.items()}
    if not isinstance(value, list):
        raise BadMessage(f"{where}: not a list")
    if origin is frozenset:
        return frozenset(_convert(parts[0], part, where) for part in value)
    if origin is tuple and len(parts) == 2 and parts[1] is ...:
        return tuple(_convert(parts[0], part, where) for part in value)
    if origin is tuple and len(parts) == len(value):
        return tuple(_convert(hint, part, where) for hint, part in zip(parts, value, strict=True))
    raise BadMessage(f"{where}: wrong length or type")


def _convert_scalar(hint: type, value: object, where: str) -> object:
    if hint is bytes and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            raise BadMessage(f"{where}: not base64") from None
    if issubclass(hint, StrEnum):
        if value not in hint._value2member_map_:
            raise BadMessage(f"{where}: unknown value")
        return hint(str(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise BadMessage(f"{where}: expected {hint.__name__}")
    return value
