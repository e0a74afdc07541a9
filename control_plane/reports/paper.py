"""A report as PDF, through fpdf2: the only file that knows it. Its fonts know Latin letters only; others become "?"."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from control_plane.reports.content import Content
from control_plane.reports.documents import words

MISSING = "this server cannot make PDF: install banksman[pdf]"
LINE_MM = 4.5


class NoPaper(Exception):
    """Why there is no PDF, in a sentence."""


def as_pdf(content: Content) -> bytes:
    """Raises NoPaper."""
    try:
        fpdf: Any = importlib.import_module("fpdf")
    except ImportError as error:
        raise NoPaper(MISSING) from error
    said: Any = words(content)
    pdf = fpdf.FPDF(format="A4")
    pdf.set_auto_page_break(True, margin=15)
    pdf.set_title(_latin(said["heading"]))
    pdf.add_page()
    _text(pdf, said["heading"], size=16, style="B")
    _text(pdf, f"run {said['run']['id']}")
    _lines(pdf, (f"{name}: {value}" for name, value in said["facts"]))
    _code(pdf, said["run"]["error_message"])
    _title(pdf, "Commands")
    for command in said["commands"]:
        _code(pdf, command)
    if said["variables"]:
        _title(pdf, "Variables")
        _lines(pdf, (f"{each['name']} = {each['value']}" for each in said["variables"]))
    _title(pdf, "Attempts")
    _lines(pdf, (_attempt(each) for each in said["attempts"]))
    if said["progress"]:
        _title(pdf, "Progress")
        _text(pdf, " ".join(str(said["progress"][key] or "") for key in ("percent", "stage", "note")))
    if said["result_text"]:
        _title(pdf, "Result")
        _code(pdf, said["result_text"])
    _artifacts(pdf, said["artifacts"], said["artifacts_left_out"])
    _title(pdf, "Events")
    _lines(
        pdf, (" ".join(filter(None, (e["at"], e["type"], e["reason"], e["actor"], e["note"]))) for e in said["events"])
    )
    _title(pdf, "Log")
    for each in said["logs"]:
        _log(pdf, each)
    return bytes(pdf.output())


def _attempt(each: Any) -> str:
    end = "" if each["exit_code"] is None else f", exit code {each['exit_code']}"
    took = "" if each["duration_s"] is None else f", {each['duration_s']} s"
    return f"attempt {each['number']} on {each['runner']}: {each['state']} {each['reason'] or ''}{end}{took}"


def _artifacts(pdf: Any, artifacts: Any, left_out: int) -> None:
    if not artifacts:
        return
    _title(pdf, "Artifacts")
    for each in artifacts:
        _text(pdf, f"{each['name']}: {each['size_bytes']} bytes, {each['state']}, attempt {each['attempt']}")
        _code(pdf, each["sha256"])
    if left_out:
        _text(pdf, f"... and {left_out} more")


def _log(pdf: Any, each: Any) -> None:
    incomplete = "" if each["complete"] else ", incomplete"
    _text(pdf, f"Attempt {each['attempt']}: {each['bytes']} bytes{incomplete}", style="B")
    if each["missing"]:
        _text(pdf, each["missing"])
        return
    _code(pdf, each["head"])
    if each["left_out_bytes"]:
        _text(pdf, f"... {each['left_out_bytes']} bytes ...")
        _code(pdf, each["tail"])


def _title(pdf: Any, text: str) -> None:
    pdf.ln(3)
    _text(pdf, text, size=12, style="B")


def _lines(pdf: Any, lines: Iterable[str]) -> None:
    for line in lines:
        _text(pdf, line)


def _text(pdf: Any, text: str, *, size: int = 10, style: str = "") -> None:
    pdf.set_font("Helvetica", style=style, size=size)
    _cells(pdf, text, LINE_MM * size / 9)


def _code(pdf: Any, text: str) -> None:
    if text:
        pdf.set_font("Courier", size=8)
        _cells(pdf, text, LINE_MM * 0.8)
        pdf.ln(1)


def _cells(pdf: Any, text: str, height: float) -> None:
    pdf.multi_cell(0, height, _latin(text), align="L", wrapmode="CHAR", new_x="LMARGIN", new_y="NEXT")


def _latin(text: str) -> str:
    return text.replace("…", "...").expandtabs(8).encode("latin-1", "replace").decode("latin-1")
