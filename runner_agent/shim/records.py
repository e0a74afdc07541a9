"""The dataclasses of this room, without loading what the standard ones are made with.

`dataclasses` brings `inspect`, `ast`, `dis` and `tokenize`, and eight functions for each class: a quarter of a fork
server's memory, of which every fork copies the page tables. A fork server (which is started with `-S`, as nothing else
of ours) makes them here: slots, an `__init__` of plain assignments, and one comparison for all. That nobody writes to a
frozen one is left to the type checker there; everywhere else these are the standard ones.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING or not sys.flags.no_site:
    from dataclasses import dataclass, field, replace
else:
    from operator import attrgetter

    _ABSENT = object()

    class _Field:
        def __init__(self, *, default=_ABSENT, default_factory=_ABSENT, repr=True):
            self.default, self.default_factory, self.repr = default, default_factory, repr

    field = _Field

    def dataclass(*, slots, frozen=False, kw_only=False):
        """Completes a class as the standard one would."""
        assert slots
        return lambda plain: _complete(plain, frozen, kw_only)

    def replace(value, /, **changes):
        """A copy with other values in these fields."""
        kind = type(value)
        return kind(**{**dict(zip(kind.__slots__, kind.__values__(value), strict=False)), **changes})

    def _complete(plain, frozen, kw_only):
        names = plain.__dict__.get("__annotations__", ())  # noqa: RUF063 - inspect is what is not to be loaded
        fields = {name: _field(plain.__dict__.get(name, _ABSENT)) for name in names}
        ours = {"__slots__": tuple(fields), "__eq__": _eq, "__hash__": _hash if frozen else None, "__repr__": _repr}
        ours["__shown__"] = tuple(name for name, each in fields.items() if each.repr)
        if fields:
            ours["__init__"] = _init(fields, kw_only)
            # Of one name alone no tuple is got.
            ours["__values__"] = attrgetter(*fields, next(iter(fields)))
        left_out = {"__dict__", "__weakref__", *fields}
        kept = {name: value for name, value in plain.__dict__.items() if name not in left_out}
        return type(plain)(plain.__name__, plain.__bases__, {**ours, **kept, "__qualname__": plain.__qualname__})

    def _field(given):
        return given if isinstance(given, _Field) else _Field(default=given)

    def _init(fields, kw_only):
        parameters, lines, names = [], [], {"_ABSENT": _ABSENT}
        for name, each in fields.items():
            source = name
            if each.default_factory is not _ABSENT:
                names[f"make_{name}"] = each.default_factory
                parameters.append(f"{name}=_ABSENT")
                source = f"make_{name}() if {name} is _ABSENT else {name}"
            elif each.default is not _ABSENT:
                names[f"of_{name}"] = each.default
                parameters.append(f"{name}=of_{name}")
            else:
                parameters.append(name)
            lines.append(f" self.{name} = {source}")
        head = f"def __init__(self, {'*, ' if kw_only else ''}{', '.join(parameters)}):"
        exec("\n".join((head, *lines)), names)
        return names["__init__"]

    def _eq(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def _hash(self):
        return hash(tuple([getattr(self, name) for name in self.__slots__]))

    def _repr(self):
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__shown__)
        return f"{type(self).__qualname__}({shown})"


__all__ = ["dataclass", "field", "replace"]
