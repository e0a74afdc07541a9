"""What protobuf says about JSON that is no message, in words for who wrote the file."""

from __future__ import annotations

import re

from control_plane.cli.manifest_reader import nearest

FIELDS = re.compile(r"Failed to parse (\w+) field: ")
PLACE = re.compile(r' at "?(?:Task|RunSpec)\.?([\w.\[\]]*?)"?\.*$')
UNKNOWN = re.compile(r'Message type "[\w.]+" has no field named "([^"]*)" at "\w+\.?([^"]*)"')
KNOWN = re.compile(r"'(\w+)'")
ENUM = re.compile(r"Invalid enum value (\w+) for enum type ([\w.]+)")


def explained(error: Exception) -> str:
    """Such as: spec.slots: invalid literal for int() with base 10: 'many'."""
    text = str(error)
    unknown = UNKNOWN.search(text)
    if unknown is not None:
        name, where = unknown.groups()
        known = [re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", each) for each in KNOWN.findall(text)]
        return f"{where or 'it'} has no field {name!r}{nearest(name, known)}"
    path = ".".join(FIELDS.findall(text))
    rest = FIELDS.sub("", text)
    place = PLACE.search(rest)
    if place is not None:
        path, rest = place[1] or path, rest[: place.start()]
    enum = ENUM.search(rest)
    if enum is not None:
        rest = f"{enum[1].lower()!r} is not one of {', '.join(words(enum[2]))}"
    rest = rest.rstrip(".")
    return f"{path}: {rest}" if path else rest


def words(enum: str) -> list[str]:
    """The values of an enumeration as files write them."""
    from google.protobuf.descriptor_pool import Default

    names = [value.name for value in Default().FindEnumTypeByName(enum).values]
    prefix = names[0].removesuffix("UNSPECIFIED")
    return [name.removeprefix(prefix).lower() for name in names[1:]]
