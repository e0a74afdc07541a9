"""Write messages of the contract as YAML that reads back as the same: texts of several lines as blocks."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from control_plane.cli.durations import written_duration

Data = dict[str, Any]
# Line ends that YAML would not give back as they were.
ODD_BREAKS = re.compile("[\x85\u2028\u2029]")
NANOSECONDS_A_MILLISECOND = 1_000_000


def data_of(message: Any, known: Collection[str] | None = None) -> Data:
    """The message's fields in the contract's order, as they are written; what is empty is left out."""
    data: Data = {}
    for declared in message.DESCRIPTOR.fields:
        name = declared.name
        if known is not None and name not in known:
            continue
        if declared.has_presence and not message.HasField(name):
            continue
        value = field_data(getattr(message, name), declared)
        if value in ([], {}) or (not declared.has_presence and value in ("", 0, False, b"", None)):
            continue
        data[name] = value
    return data


def field_data(value: Any, declared: Any) -> Any:
    inner = declared.message_type
    if inner is not None and inner.GetOptions().map_entry:
        entry = inner.fields_by_name["value"]
        return {key: single(value[key], entry) for key in sorted(value)}
    if declared.is_repeated:
        return [single(item, declared) for item in value]
    return single(value, declared)


def single(value: Any, declared: Any) -> Any:
    if declared.enum_type is not None:
        return enum_word(value, declared.enum_type)
    inner = declared.message_type
    if inner is None:
        return text_or_bytes(value) if declared.type == declared.TYPE_BYTES else value
    match inner.full_name:
        case "google.protobuf.Duration":
            return duration_text(value)
        case "google.protobuf.Timestamp":
            return value.ToJsonString()
        case "google.protobuf.Value":
            return value_text(value)
        case _:
            return data_of(value)


def enum_word(number: int, descriptor: Any) -> str | None:
    if number == 0:
        return None
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    known = descriptor.values_by_number.get(number)
    return str(number) if known is None else str(known.name).removeprefix(prefix)


def duration_text(value: Any) -> str:
    """10m where it can be said so, else seconds with a fraction."""
    if value.nanos % NANOSECONDS_A_MILLISECOND == 0:
        return written_duration(value.seconds + value.nanos / 1e9)
    return f"{value.seconds}.{value.nanos:09d}s"


def value_text(value: Any) -> str:
    """As the control plane keeps it."""
    match value.WhichOneof("kind"):
        case "string_value":
            return str(value.string_value)
        case "bool_value":
            return "true" if value.bool_value else "false"
        case _:
            number = value.number_value
            return str(int(number)) if number.is_integer() else repr(number)


def text_or_bytes(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def yaml_documents(documents: list[Data]) -> str:
    """The documents of one file."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks, and repeats what occurs twice."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = '"' if ODD_BREAKS.search(value) else "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    settings: Data = {"sort_keys": False, "allow_unicode": True, "default_flow_style": False, "width": 120}
    return "---\n".join(str(yaml.dump(document, Dumper=Dumper, **settings)) for document in documents)
