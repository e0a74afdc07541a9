"""JSON for the frozen dataclasses of this room: strict about types, silent about fields that it does not know.

What there is to know of a class is worked out once, before the first fork (`warm`): a shim that is forked then reads
little of its memory, and so copies little of it.
"""

from __future__ import annotations

import binascii
import json
import sys
import types
from collections.abc import Callable
from enum import StrEnum
from operator import attrgetter

TYPE_CHECKING = False  # a fork server does without `typing`: see `records`
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

JsonObject = dict[str, object]
Convert = Callable[[object, str], object]


# Made once: `json.dumps` and `json.loads` make them anew, or guess an encoding, each time.
compact_json = json.JSONEncoder(separators=(",", ":")).encode
read_json = json.JSONDecoder().decode


class BadMessage(ValueError):
    """Something that was read does not have the shape that it should have."""


_AS_IT_IS = frozenset({str, int, float, bool, type(None)})
# For each class: what gets all its fields at once, their names, and the names of those that may need converting.
_Writer = tuple[Callable[[object], tuple[object, ...]], tuple[str, ...], tuple[str, ...]]
_writers: dict[type, _Writer] = {}


def to_json(value: object) -> object:
    """A dataclass (or a part of one) as JSON values: bytes in base64, sets sorted, enums by value."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    writer = _writers.get(kind)
    if writer is None:
        return _other_to_json(kind, value)
    get, names, others = writer
    made = dict(zip(names, get(value), strict=False))
    for name in others:
        part = made[name]
        if type(part) not in _AS_IT_IS:
            made[name] = to_json(part)
    return made


def _other_to_json(kind: type, value: object) -> object:
    if isinstance(value, StrEnum):
        return value._value_  # `value` itself is looked for in Python
    if kind is tuple or kind is list:
        return [to_json(part) for part in value]  # type: ignore[attr-defined]
    if isinstance(value, dict):
        return {str(key): to_json(part) for key, part in value.items()}
    if isinstance(value, bytes):
        return binascii.b2a_base64(value, newline=False).decode("ascii")
    if isinstance(value, frozenset):
        return sorted(value)
    if _is_dataclass(kind):
        warm(kind)
        return to_json(value)
    return value


def _is_dataclass(kind: type) -> bool:
    """Whether it is one of ours: all have slots."""
    return "__slots__" in kind.__dict__ and "__annotations__" in kind.__dict__


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
        plan = _plan(kind)
        names = tuple(name for name, *_ in plan)
        others = tuple(name for name, exact, *_ in plan if exact not in _AS_IT_IS)
        # Of one name alone no tuple is got; the second is left over.
        get = attrgetter(*names, names[0]) if names else lambda _: ()
        _writers[kind] = (get, names, others)


def _plan(kind: type[object]) -> _Plan:
    known = _plans.get(kind)
    if known is None:
        known = _plans[kind] = tuple((name, *_reader(hint), f"{kind.__name__}.{name}") for name, hint in _hints(kind))
    return known


def _hints(kind: type[object]) -> list[tuple[str, object]]:
    """The types of its fields, as `typing.get_type_hints` would find them."""
    names = vars(sys.modules[kind.__module__])
    return [(name, eval(text, names)) for name, text in kind.__annotations__.items()]  # our own source


def _reader(hint: object) -> tuple[type | None, Convert]:
    """The type whose values need no conversion, and what converts or refuses all others."""
    origin = getattr(hint, "__origin__", None)
    parts: tuple[object, ...] = getattr(hint, "__args__", ())
    if isinstance(hint, types.UnionType):
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
    if _is_dataclass(kind):
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
