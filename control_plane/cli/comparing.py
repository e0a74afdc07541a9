"""What a document would change: compared field by field with what the control plane has."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from control_plane.cli.invocation import Invocation
from control_plane.cli.kinds import fetch
from control_plane.cli.manifest_writer import data_of, yaml_documents
from control_plane.cli.manifests import DEFAULTS, FIELDS, OWNER, UNLESS_GIVEN, Document, document_data
from control_plane.cli.people import known_principals


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`stored` is None where the thing is not there yet; no `fields`: it is as the document wants it."""

    document: Document
    project: str
    stored: Any
    fields: list[str]

    @property
    def action(self) -> str:
        if self.stored is None:
            return "create"
        return "update" if self.fields else "unchanged"


def compare(inv: Invocation, document: Document) -> Change:
    project = document.project or inv.project
    stored = fetch(inv, document.kind, project, document.name)
    fields = [] if stored is None else differing(inv, document, stored)
    return Change(document=document, project=project, stored=stored, fields=fields)


def differing(inv: Invocation, document: Document, stored: Any) -> list[str]:
    """The fields that the document wants otherwise."""
    kind, names = document.kind, FIELDS[document.kind]
    wanted, known = plain(document.message, names), plain(stored, names)
    found = []
    for name in names:
        if name in UNLESS_GIVEN and name not in document.given:
            continue
        default = DEFAULTS[kind].get(name)
        if wanted.get(name, default) == known.get(name, default) or same(inv, document, stored, name):
            continue
        found.append(name)
    return found


def same(inv: Invocation, document: Document, stored: Any, name: str) -> bool:
    """Where a name and an id may say the same."""
    if name == "task_id" and document.kind == "Schedule":
        return document.message.task_id in (stored.task_id, stored.task_name)
    if name == OWNER:
        given = document.message.owner
        return any(stored.owner == known and given == called for known, called in known_principals(inv))
    return False


def plain(message: Any, names: tuple[str, ...]) -> dict[str, Any]:
    copied = type(message)()
    copied.CopyFrom(message)
    without_defaults(copied)
    return data_of(copied, names)


def without_defaults(message: Any) -> None:
    """The first value of each enumeration is what its absence means."""
    for declared, value in message.ListFields():
        if declared.enum_type is not None:
            if not declared.is_repeated and value == 1:
                message.ClearField(declared.name)
        elif declared.message_type is None or declared.message_type.GetOptions().map_entry:
            continue
        else:
            for inner in value if declared.is_repeated else [value]:
                without_defaults(inner)


def shown(change: Change) -> str:
    """The difference as `diff -u` shows it; empty when there is none."""
    if change.action == "unchanged":
        return ""
    kind, message = change.document.kind, change.document.message
    wanted = type(message)()
    wanted.CopyFrom(message if change.stored is None else change.stored)
    for name in change.fields:
        wanted.ClearField(name)
        if message.DESCRIPTOR.fields_by_name[name].is_repeated:
            getattr(wanted, name).MergeFrom(getattr(message, name))
        else:
            copy_field(message, wanted, name)
    before = "" if change.stored is None else yaml_documents([document_data(kind, change.stored)])
    after = yaml_documents([document_data(kind, wanted)])
    title = f"{kind.lower()}/{change.document.name}"
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"server:{title}", f"{change.document.place.file}:{title}", lineterm=""
    )
    return "\n".join(lines)


def copy_field(source: Any, target: Any, name: str) -> None:
    declared = source.DESCRIPTOR.fields_by_name[name]
    if declared.has_presence and not source.HasField(name):
        return
    if declared.message_type is not None:
        getattr(target, name).CopyFrom(getattr(source, name))
    else:
        setattr(target, name, getattr(source, name))
