"""Print data in one of five forms: table, json, jsonl, yaml, name.

A table is drawn on a terminal; in a pipe it is tab-separated, with whole ids and ISO times, without colour.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from control_plane.cli.durations import format_duration
from control_plane.cli.plain import plain
from control_plane.cli.words import short_id

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

# Columns of free text, which a narrow terminal shortens.
PROSE = frozenset({"TASK", "WHY", "DESCRIPTION", "NOTE", "LABELS", "TAGS"})
C1 = re.compile(r"[\x7f-\x9f\u2028\u2029]")
STATE_COLORS = {
    "SUCCEEDED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "LOST": "red",
    "EXPIRED": "red",
    "CANCELLED": "yellow",
    "CANCELLING": "yellow",
    "SKIPPED": "yellow",
    "RUNNING": "cyan",
    "ASSIGNED": "cyan",
    "QUEUED": "blue",
    "connected": "green",
    "disconnected": "red",
    "revoked": "red",
    "disabled": "red",
    "draining": "yellow",
    "active": "green",
    "paused": "yellow",
    "deleted": "red",
}


@dataclass(frozen=True, slots=True)
class Id:
    """An id: its last 8 digits on a terminal, whole in a pipe."""

    value: str


@dataclass(frozen=True, slots=True)
class State:
    """A word with a colour of its own."""

    word: str


@dataclass(frozen=True, slots=True)
class When:
    """A point in time, or none: relative on a terminal, ISO in a pipe."""

    at: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class Span:
    """A duration in seconds, or none."""

    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Since:
    """As When, but on a terminal with the time itself too: what is compared with other clocks and logs."""

    at: datetime.datetime | None


Cell = str | Id | State | When | Since | Span


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table and one line of a single thing."""

    title: str
    cell: Callable[[Any], Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How one kind of message is shown: columns in lists, lines when alone, and its name."""

    columns: Sequence[Column]
    lines: Sequence[Column] = ()
    name: Callable[[Any], str]


def when(message: Message, field: str) -> When:
    """A Timestamp field as a cell; nothing when it is not set."""
    if not message.HasField(field):
        return When(None)
    return When(to_datetime(getattr(message, field)))


def since(message: Message, field: str) -> Since:
    return Since(when(message, field).at)


def to_datetime(stamp: Timestamp) -> datetime.datetime:
    """Aware UTC; a stamp outside of what Python can hold becomes the nearest end."""
    try:
        return stamp.ToDatetime(tzinfo=datetime.UTC)
    except (ValueError, OverflowError):
        return datetime.datetime.max.replace(tzinfo=datetime.UTC)


def span(message: Message, field: str) -> Span:
    if not message.HasField(field):
        return Span(None)
    return Span(to_seconds(getattr(message, field)))


def counted(count: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def to_seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def iso(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def relative(at: datetime.datetime, now: datetime.datetime) -> str:
    """3m 12s ago, in 2h, now."""
    distance_s = (now - at).total_seconds()
    if abs(distance_s) < 1:
        return "now"
    whole = format_duration(float(int(abs(distance_s)))).replace(".0 s", "s")
    return f"{whole} ago" if distance_s > 0 else f"in {whole}"


def color_wanted(environ: Mapping[str, str]) -> bool:
    """https://no-color.org, and terminals that know none."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def as_data(message: Message, *, whole: bool = True) -> dict[str, Any]:
    """Proto JSON with snake_case names; `whole` prints fields without a value too, so that the names are stable."""
    from google.protobuf.json_format import MessageToDict

    data = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=whole)
    return in_field_order(data, message.DESCRIPTOR)


def in_field_order(data: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    """The fields as the contract orders them; the conversion puts the unset ones last."""
    ordered = {}
    for field in descriptor.fields:
        if field.name not in data:
            continue
        value, inner = data[field.name], field.message_type
        if inner is not None and inner.file.package.startswith("banksman.") and not inner.GetOptions().map_entry:
            is_list = isinstance(value, list)
            value = [in_field_order(item, inner) for item in value] if is_list else in_field_order(value, inner)
        ordered[field.name] = value
    return ordered


def json_text(data: object, *, indent: int | None = None) -> str:
    """JSON that a terminal cannot be steered with."""
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    return C1.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def yaml_text(data: object) -> str:
    """YAML in the order of the fields, with texts of several lines as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Knows how to write a block of text."""

    def block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Dumper.add_representer(str, block)
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Printer:
    """Prints messages to one stream in one form."""

    form: str
    stream: TextIO
    terminal: bool
    color: bool
    now: Callable[[], datetime.datetime]

    def rows(self, messages: Iterable[Message], view: View) -> None:
        """A list of things."""
        match self.form:
            case "json":
                self.write(json_text([as_data(message) for message in messages], indent=2))
            case "yaml":
                self.write(yaml_text([as_data(message, whole=False) for message in messages]).rstrip("\n"))
            case "jsonl" | "name":
                for message in messages:
                    self.one(message, view)
            case _:
                self.table(
                    [column.title for column in view.columns],
                    [[column.cell(message) for column in view.columns] for message in messages],
                )

    def one(self, message: Message, view: View) -> None:
        """A single thing."""
        match self.form:
            case "json":
                self.write(json_text(as_data(message), indent=2))
            case "jsonl":
                self.write(json_text(as_data(message)))
                self.stream.flush()
            case "yaml":
                self.write(yaml_text(as_data(message, whole=False)).rstrip("\n"))
            case "name":
                self.write(plain(view.name(message)))
            case _:
                lines = [(line.title, line.cell(message)) for line in view.lines or view.columns]
                self.pairs(lines)

    def pairs(self, lines: Sequence[tuple[str, Cell]]) -> None:
        """Titles with their values, one a line; empty ones are left out."""
        shown = [(title.lower(), self.text(cell)) for title, cell in lines]
        shown = [(title, text) for title, text in shown if text]
        width = max((len(title) for title, _ in shown), default=0)
        for title, text in shown:
            self.write(f"{title:<{width}}  {text}" if self.terminal else f"{title}\t{text}")

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        if self.terminal:
            self.drawn(titles, rows)
            return
        self.write("\t".join(titles))
        for row in rows:
            self.write("\t".join(self.text(cell) for cell in row))

    def drawn(self, titles: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console(file=self.stream, no_color=not self.color, highlight=False, force_terminal=True)
        table = Table(box=None, pad_edge=False, header_style="bold" if self.color else "")
        texts = [[self.text(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(titles, *texts, strict=True)]
        firm = sum(8 if title in PROSE else width for title, width in zip(titles, widths, strict=True))
        # One line a row, if that is possible: prose gives way first, and ends in an ellipsis.
        fits = firm + 2 * len(titles) <= console.width
        for title in titles:
            table.add_column(title, overflow="fold", no_wrap=fits and title not in PROSE)
        for row, shown in zip(rows, texts, strict=True):
            cells = [Text(text, style=self.style(cell)) for cell, text in zip(row, shown, strict=True)]
            for title, text in zip(titles, cells, strict=True):
                if fits and title in PROSE:
                    text.no_wrap, text.overflow = True, "ellipsis"
            table.add_row(*cells)
        console.print(table)

    def text(self, cell: Cell) -> str:
        match cell:
            case str():
                return plain(cell)
            case Id(value=value):
                return plain(short_id(value) if self.terminal else value)
            case State(word=word):
                return plain(word)
            case When(at=None) | Since(at=None) | Span(duration_s=None):
                return ""
            case Since(at=at) if at is not None:
                stamp = at.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                return f"{stamp} ({relative(at, self.now())})" if self.terminal else iso(at)
            case When(at=at) if at is not None:
                return relative(at, self.now()) if self.terminal else iso(at)
            case Span(duration_s=duration_s) if duration_s is not None:
                return format_duration(duration_s) if self.terminal else f"{duration_s:.3f}"
            case _:
                raise TypeError(f"not a cell: {cell!r}")

    def style(self, cell: Cell) -> str:
        return STATE_COLORS.get(cell.word, "") if self.color and isinstance(cell, State) else ""

    def write(self, text: str) -> None:
        self.stream.write(text + "\n")
