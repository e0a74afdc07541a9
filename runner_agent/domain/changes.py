"""`changed(value, field=...)`: what dataclasses.replace does, for frozen slotted values, at a third of its cost.

An attempt's life is some thirty new states of dozens of fields, of which each changes one or two. Fields are copied as
they are: a value of this room has no `__post_init__`, and every field of it is given to its constructor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import repeat
from operator import attrgetter, call
from typing import TYPE_CHECKING

__all__ = ["changed"]

if TYPE_CHECKING:
    from dataclasses import replace as changed
else:

    def changed(value: object, /, **changes: object) -> object:
        """A copy of the value with these fields. Raises TypeError for a field that it does not have."""
        kind = type(value)
        get, setters, setter_of = _ways.get(kind) or _way(kind)
        made = object.__new__(kind)
        # A slot's own setter knows nothing of `frozen`, and answers None.
        any(map(call, setters, repeat(made), get(value)))
        try:
            for name, new in changes.items():
                setter_of[name](made, new)
        except KeyError as error:
            raise TypeError(f"{kind.__name__} has no field {error}") from None
        return made


Setter = Callable[[object, object], None]
# How the fields of a kind of value are read all together, set all together, and set by name.
Way = tuple[Callable[[object], tuple[object, ...]], tuple[Setter, ...], dict[str, Setter]]
_ways: dict[type, Way] = {}


def _way(kind: type) -> Way:
    names = [field.name for field in dataclasses.fields(kind)]
    setter_of = {name: getattr(kind, name).__set__ for name in names}
    # Of one name alone no tuple is got; setting a field twice changes nothing.
    get = attrgetter(*names, names[0])
    way = _ways[kind] = (get, (*setter_of.values(), setter_of[names[0]]), setter_of)
    return way
