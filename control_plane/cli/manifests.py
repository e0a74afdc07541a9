"""Documents that describe things: which kinds there are, which of their fields a file gives, how files are read."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control_plane.cli import contract
from control_plane.cli.errors import CliError
from control_plane.cli.manifest_reader import Place, Reader, nearest
from control_plane.cli.manifest_writer import Data, data_of

_SHARED = (
    *("name", "description", "spec", "labels", "tags", "variables", "owner", "is_public", "report", "notifications"),
    *("unknown_variables", "allow_shell_substitution", "allowed_overrides"),
)
# What a file gives, in the order in which things are made.
FIELDS: dict[str, tuple[str, ...]] = {
    "Template": ("parameters", *_SHARED),
    "Task": ("active", *_SHARED),
    "Schedule": (
        *("name", "task_id", "cron", "every", "once", "time_zone", "overlap", "catch_up", "max_catch_up", "jitter"),
        *("start_at", "end_at", "pause_after_failures", "variables", "paused", "pause_note"),
    ),
}
# Left as they are where a file does not give them; never exported, since another server has other people.
OWNER = "owner"
UNLESS_GIVEN = {OWNER, "paused", "pause_note"}
# What an absent field means.
DEFAULTS: dict[str, Data] = {
    "Template": {"is_public": False, "allow_shell_substitution": False, "unknown_variables": "KEEP"},
    "Task": {"active": True, "is_public": False, "allow_shell_substitution": False, "unknown_variables": "KEEP"},
    "Schedule": {"time_zone": "UTC", "jitter": "0s", "overlap": "SKIP", "catch_up": "SKIP"},
}
MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One thing as a file describes it. `project` is empty where the file names none."""

    kind: str
    message: Any
    given: set[str]
    project: str = ""
    place: Place
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.message.name)

    def where(self, path: str) -> Place:
        """Where a field of this thing stands, or what holds it."""
        while path:
            if path in self.places:
                return self.places[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.place


def new_message(kind: str) -> Any:
    match kind:
        case "Template":
            return contract.template_pb2.Template()
        case "Task":
            return contract.task_pb2.Task()
        case _:
            return contract.schedule_pb2.Schedule()


def read_documents(paths: Sequence[str]) -> list[Document]:
    """Every document of the files, templates first, then tasks, then schedules.

    Raises CliError that names everything that is wrong with any of them.
    """
    found: list[Document] = []
    problems: list[tuple[Place, str]] = []
    for path in paths:
        reader = Reader(path)
        found += read_file(path, reader)
        problems += reader.problems
    seen: set[tuple[str, str, str]] = set()
    for document in found:
        key = (document.kind, document.project, document.name)
        if key in seen and document.name:
            problems.append((document.place, f"{document.kind} {document.name!r} is described twice"))
        seen.add(key)
    if problems:
        lines = [place.says(text) for place, text in sorted(problems)]
        if len(lines) == 1:
            raise CliError(lines[0])
        raise CliError(f"{len(lines)} things are wrong, and nothing was done", details=tuple(lines))
    order = list(FIELDS)
    return sorted(found, key=lambda document: order.index(document.kind))


def read_file(path: str, reader: Reader) -> Iterator[Document]:
    import yaml

    try:
        text = sys.stdin.read(MOST_BYTES) if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {path}", cause=getattr(error, "strerror", None) or str(error)) from error
    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            if node.tag != "tag:yaml.org,2002:null":
                yield from read_document(node, reader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(path, mark.line + 1, mark.column + 1) if mark else Place(path, 1, 1)
        reader.problems.append((place, error.problem or "is not YAML"))
    except yaml.YAMLError as error:
        reader.problems.append((Place(path, 1, 1), str(error).splitlines()[0]))


def read_document(node: Any, reader: Reader) -> Iterator[Document]:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        reader.wrong(node, "a document must be a mapping of names to values")
        return
    entries = {name: value for _, name, value in Reader(reader.file).mapping(node, "a document")}
    kind = entries.get("kind")
    if kind is None:
        reader.wrong(node, f"a document must have a kind: {', '.join(FIELDS)}")
        return
    if not isinstance(kind, yaml.ScalarNode) or kind.value not in FIELDS:
        word = str(kind.value) if isinstance(kind, yaml.ScalarNode) else "that"
        reader.wrong(kind, f"there is no kind {word!r}: {', '.join(FIELDS)}{nearest(word, FIELDS)}")
        return
    message = new_message(kind.value)
    project = entries.get("project")
    body = copy.copy(node)
    body.value = [pair for pair in node.value if getattr(pair[0], "value", None) not in ("kind", "project")]
    before = len(reader.problems)
    inner = Reader(reader.file, reader.problems)
    given = inner.message(body, message, "", known=FIELDS[kind.value], what=kind.value)
    if not message.name and len(reader.problems) == before:
        reader.wrong(node, f"a {kind.value} must have a name")
    with_kinds(message)
    yield Document(
        kind=kind.value,
        message=message,
        given=given,
        project=str(project.value) if isinstance(project, yaml.ScalarNode) else "",
        place=reader.place(node),
        places=inner.places,
    )


def with_kinds(message: Any) -> None:
    """A step of no kind is a main one."""
    if "spec" in message.DESCRIPTOR.fields_by_name:
        for step in message.spec.steps:
            step.kind = step.kind or contract.spec_pb2.STEP_KIND_MAIN


def document_data(kind: str, message: Any) -> Data:
    """A thing as a document: what another server can be given. What an absent field means is left out."""
    data = data_of(message, [name for name in FIELDS[kind] if name != OWNER])
    for name, default in DEFAULTS[kind].items():
        if data.get(name) == default:
            del data[name]
    for step in data.get("spec", {}).get("steps", []):
        if step.get("kind") == "MAIN":
            del step["kind"]
    if kind == "Schedule" and message.task_name:
        data["task_id"] = message.task_name
    name = data.pop("name", "")
    return {"kind": kind, "name": name, **data}
