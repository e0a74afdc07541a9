"""Read messages of the contract from YAML, strictly: whatever has no meaning is named with its line and column.

Field names are the contract's. Durations are written as 10m, times as RFC 3339 has them, enum values without their
prefix, bytes as text or !!binary. Texts are taken as they are written: 1.10 stays 1.10.
"""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from control_plane.cli.durations import parse_duration
from control_plane.cli.likely_words import instead, like

if TYPE_CHECKING:
    import yaml
    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

NULL, BOOL, BINARY = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "binary"))
TRUE = ("true", "yes", "on")
WELL_KNOWN = "google.protobuf."


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def says(self, text: str) -> str:
        return f"{self.file}:{self.line}:{self.column}: {text}"


class Wrong(Exception):
    """A value that has no meaning."""


@dataclass(slots=True)
class Reader:
    """Reads one file. What is wrong with it gathers in `problems`; `places` says where each path stands."""

    file: str
    problems: list[tuple[Place, str]] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)

    def place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def wrong(self, node: yaml.Node, text: str) -> None:
        self.problems.append((self.place(node), text))

    def mapping(self, node: yaml.Node, what: str, field: str = "") -> list[tuple[yaml.Node, str, yaml.Node]]:
        """(key node, key, value node) of each; those without a value are left out."""
        import yaml

        if not isinstance(node, yaml.MappingNode):
            self.wrong(node, f"{what} must be a mapping of names to values{like(field)}")
            return []
        found: dict[str, tuple[yaml.Node, str, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.wrong(key, "a name must be a text")
            elif key.value in found:
                self.wrong(key, f"{key.value!r} is given twice")
            else:
                found[key.value] = (key, key.value, value)
        return [entry for entry in found.values() if entry[2].tag != NULL]

    def message(
        self, node: yaml.Node, message: Any, path: str, *, known: Collection[str] | None = None, what: str = ""
    ) -> set[str]:
        """Fill the message; the names of the fields that are given. `known`: other fields than these are refused."""
        descriptor: Descriptor = message.DESCRIPTOR
        what = what or descriptor.name
        names = [each.name for each in descriptor.fields if known is None or each.name in known]
        given: set[str] = set()
        chosen: dict[str, str] = {}
        for key, name, value in self.mapping(node, what, path.rpartition(".")[2]):
            if name not in names:
                hint = instead(descriptor.name, name, fields_of_a_spec(descriptor)) or nearest(name, names)
                self.wrong(key, f"{what} has no field {name!r}{hint}")
                continue
            declared = descriptor.fields_by_name[name]
            here = f"{path}.{name}" if path else name
            self.places[here] = self.place(key)
            one_of = declared.containing_oneof
            if one_of is not None and len(one_of.fields) > 1 and chosen.setdefault(one_of.name, name) != name:
                self.wrong(key, f"give either {chosen[one_of.name]} or {name}, not both")
                continue
            given.add(name)
            self.field(value, message, declared, here)
        return given

    def field(self, node: yaml.Node, message: Any, declared: FieldDescriptor, path: str) -> None:
        import yaml

        inner = declared.message_type
        if inner is not None and inner.GetOptions().map_entry:
            self.map_field(node, getattr(message, declared.name), inner, path)
        elif not declared.is_repeated:
            self.single(node, message, declared, path)
        elif not isinstance(node, yaml.SequenceNode):
            self.wrong(node, f"{declared.name} must be a list{like(declared.name)}")
        else:
            values = getattr(message, declared.name)
            for index, item in enumerate(node.value):
                here = f"{path}[{index}]"
                self.places[here] = self.place(item)
                if inner is not None and not inner.full_name.startswith(WELL_KNOWN):
                    self.message(item, values.add(), here)
                elif (value := self.scalar(item, declared)) is not None:
                    values.append(value)

    def map_field(self, node: yaml.Node, values: Any, entry: Descriptor, path: str) -> None:
        declared = entry.fields_by_name["value"]
        for key, name, value in self.mapping(node, *(path.rpartition(".")[2],) * 2):
            self.places[f"{path}[{name}]"] = self.place(key)
            read = self.scalar(value, declared)
            if read is None:
                continue
            if declared.message_type is not None:
                values[name].CopyFrom(read)
            else:
                values[name] = read

    def single(self, node: yaml.Node, message: Any, declared: FieldDescriptor, path: str) -> None:
        inner = declared.message_type
        if inner is not None and not inner.full_name.startswith(WELL_KNOWN):
            target = getattr(message, declared.name)
            target.SetInParent()
            self.message(node, target, path)
            return
        value = self.scalar(node, declared)
        if value is not None and inner is not None:
            getattr(message, declared.name).CopyFrom(value)
        elif value is not None:
            setattr(message, declared.name, value)

    def scalar(self, node: yaml.Node, declared: FieldDescriptor) -> Any:
        """The value of one text; None when it has no meaning."""
        import yaml

        name = declared.name
        if not isinstance(node, yaml.ScalarNode):
            self.wrong(node, f"{name} must be a single value")
            return None
        try:
            return value_of(node, declared)
        except (Wrong, ValueError, OverflowError) as error:
            self.wrong(node, f"{name}: {error}")
            return None


def fields_of_a_spec(outer: Descriptor) -> list[str]:
    """Of the spec that such a message holds."""
    spec = outer.fields_by_name.get("spec")
    return [] if spec is None or spec.message_type is None else [each.name for each in spec.message_type.fields]


def value_of(node: yaml.ScalarNode, declared: FieldDescriptor) -> Any:
    """Raises Wrong, ValueError."""
    text = str(node.value)
    if declared.enum_type is not None:
        return enum_number(text, declared.enum_type)
    if declared.message_type is not None:
        return well_known(text, declared)
    match declared.cpp_type:
        case declared.CPPTYPE_BOOL:
            if node.tag != BOOL:
                raise Wrong("must be true or false")
            return text.lower() in TRUE
        case declared.CPPTYPE_STRING if declared.type == declared.TYPE_BYTES:
            return binary(text) if node.tag == BINARY else text.encode()
        case declared.CPPTYPE_STRING:
            return text
        case declared.CPPTYPE_DOUBLE:
            return number(text, float, "a number")
        case _:
            return whole(text, declared)


def well_known(text: str, declared: FieldDescriptor) -> Any:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.struct_pb2 import Value
    from google.protobuf.timestamp_pb2 import Timestamp

    match declared.message_type and declared.message_type.name:
        case "Duration":
            duration = Duration()
            duration.FromMicroseconds(round(parse_duration(text) * 1_000_000))
            return duration
        case "Timestamp":
            stamp = Timestamp()
            try:
                stamp.FromJsonString(text)
            except ValueError:
                raise Wrong(f"{text!r} is not a time; write 2030-01-02T03:04:05Z") from None
            return stamp
        case _:
            return Value(string_value=text)


def enum_number(text: str, descriptor: EnumDescriptor) -> int:
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    words = {value.name.removeprefix(prefix): value.number for value in descriptor.values if value.number}
    word = text.upper().replace("-", "_").removeprefix(prefix)
    if word not in words:
        raise Wrong(f"{text!r} is none of {', '.join(words)}{nearest(word, words)}")
    return words[word]


def whole(text: str, declared: FieldDescriptor) -> int:
    value: int = number(text, int, "a whole number")
    bits = 31 if declared.cpp_type == declared.CPPTYPE_INT32 else 63
    if not -(1 << bits) <= value < 1 << bits:
        raise Wrong(f"{text} is too large")
    return value


def number(text: str, kind: Any, what: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise Wrong(f"{text!r} is not {what}") from None


def binary(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        raise Wrong("is not base64") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion, as the end of a sentence."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
