"""A report as JSON, Markdown and HTML. What a run printed is text in each of them, never markup."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from control_plane.reports.content import Content, Json
from control_plane.reports.markdown import block, cell, code, inline, line

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
        "progress_text": progress_text(content),
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


def progress_text(content: Content) -> str:
    """How far it came, in what, and what it said; empty: it told nothing."""
    told = _part(content, "progress")
    percent = told.get("percent")
    parts = ("" if percent is None else f"{percent:g} %", told.get("stage"), told.get("note"))
    return " ".join(str(part) for part in parts if part)


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
    made.filters |= {"code": code, "cell": cell, "block": block, "words": inline, "line": line}
    return made
