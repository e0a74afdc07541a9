"""A report as JSON, Markdown and HTML. What a run printed is text in each of them, never markup."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from control_plane.reports.content import Content, Json

TEMPLATES = Path(__file__).parent / "templates"


def as_json(content: Content) -> bytes:
    """Readable, with a newline at its end."""
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()


def as_markdown(content: Content) -> bytes:
    return _environment(False).get_template("report.md.j2").render(words(content)).encode()


def as_html(content: Content) -> bytes:
    return _environment(True).get_template("report.html.j2").render(words(content)).encode()


def words(content: Content) -> dict[str, object]:
    """The content, with what documents for people have beside it."""
    result = content["result"]
    return {
        **content,
        "heading": heading(content),
        "facts": facts(content),
        "result_text": "" if result is None else json.dumps(result, ensure_ascii=False, indent=2),
    }


def heading(content: Content) -> str:
    run, task = _part(content, "run"), _part(content, "task")
    return f"{run['title'] or task['name'] or 'Run'}: {run['state']}"


def facts(content: Content) -> list[tuple[str, str]]:
    """Names and values of what there is, in the order of interest."""
    run, task, timing = _part(content, "run"), _part(content, "task"), _part(content, "timing")
    found: list[tuple[str, Json]] = [
        ("task", task["name"]),
        ("project", _part(content, "project")["name"]),
        ("created by", run["created_by"]),
        ("trigger", run["trigger_type"]),
        ("exit code", run["exit_code"]),
        ("signal", run["signal"]),
        ("cancelled by", run["cancelled_by"]),
        ("cancel note", run["cancel_note"]),
        ("retry of", run["retry_of"]),
        ("created", timing["created_at"]),
        ("started", timing["started_at"]),
        ("completed", timing["completed_at"]),
        ("queued, s", timing["queued_s"]),
        ("took, s", timing["duration_s"]),
        ("cost, USD", run["cost_usd"]),
    ]
    found += [(f"label {key}", value) for key, value in _part(run, "labels").items()]
    return [(name, str(value)) for name, value in found if value is not None and value != ""]


def _part(content: Content, name: str) -> Content:
    found = content[name]
    return found if isinstance(found, dict) else {}


@cache
def _environment(html: bool) -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"code": _code, "block": _block, "line": _line}
    return made


def _ticks(text: str, least: int) -> str:
    """More backticks in a row than the text has."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _code(value: object) -> str:
    """As code in a line, also in a table."""
    text = " ".join(str(value).split("\n")).replace("|", "\\|").strip()
    fence = _ticks(text, 1)
    return f"{fence} {text} {fence}" if text else ""


def _block(value: object) -> str:
    text = str(value)
    fence = _ticks(text, 3)
    return f"{fence}text\n{text.rstrip(chr(10))}\n{fence}"


def _line(value: object) -> str:
    """As words of a line: nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&-])", r"\\\1", " ".join(str(value).split()))
