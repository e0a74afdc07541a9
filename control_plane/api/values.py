"""Values of variables: what JSON can say about a text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Value

from control_plane.api.mapping_errors import BadFields, within
from control_plane.domain.errors import FieldViolation

# Above it a JSON number (a double) no longer tells whole numbers apart.
_WHOLE = float(1 << 53)


def text_of(value: Value) -> str:
    """A string as it is; a number or a boolean as its JSON text. Raises BadFields for anything else."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "number_value":
            return _number(value.number_value)
        case _:
            raise _bad("must be a string, a number or a boolean")


def _number(number: float) -> str:
    if not math.isfinite(number):
        raise _bad("must be a number that JSON knows")
    if number.is_integer():
        if abs(number) >= _WHOLE:
            raise _bad("is too large for a number: give it as a string")
        return str(int(number))
    return repr(number)


def value_of(text: str) -> Value:
    return Value(string_value=text)


def texts_of(values: Mapping[str, Value]) -> dict[str, str]:
    """Raises BadFields that names every key whose value is none."""
    found: dict[str, str] = {}
    bad: list[FieldViolation] = []
    for key in sorted(values):
        try:
            found[key] = text_of(values[key])
        except BadFields as error:
            bad += [within(f"[{key[:80]}]", violation) for violation in error.violations]
    if bad:
        raise BadFields(*bad, rest=found)
    return found


def values_of(texts: Mapping[str, str]) -> dict[str, Any]:
    return {key: value_of(text) for key, text in texts.items()}


def _bad(description: str) -> BadFields:
    return BadFields(FieldViolation(field="", description=description))
