"""A report as PDF, through fpdf2: the only file that knows it. Letters beyond Latin-1 take the fonts of the host."""

from __future__ import annotations

import importlib
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from control_plane.domain.extras import NO_PDF
from control_plane.reports.content import Content
from control_plane.reports.documents import words
from control_plane.reports.fonts import is_latin, spelled
from control_plane.telemetry import logger

log = logger("reports")

LACKING = "Letters written as <U+...> are in none of this server's fonts; the other formats of this report show them."
LINE_MM = 4.5
# What the built-in fonts are called, in the two ways to write.
WORDS, CODE = "Helvetica", "Courier"


class NoPaper(Exception):
    """Why there is no PDF, in a sentence."""


class Paper:
    """Pages, and the fonts to write on them: those of every reader, and the host's for what they cannot write."""

    def __init__(self, fpdf: Any, fonts: Sequence[Path]) -> None:
        self.pdf = fpdf.FPDF(format="A4")
        self.pdf.set_auto_page_break(True, margin=15)
        self._fonts = fonts
        # Name and letters of those that were read; None until one is needed.
        self._loaded: list[tuple[str, Container[int]]] | None = None
        self.is_lacking = False

    def title(self, text: str) -> None:
        self.pdf.ln(3)
        self.text(text, size=12, style="B")

    def lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.text(line)

    def text(self, text: str, *, size: int = 10, style: str = "") -> None:
        self._cells(text, WORDS, style, size, LINE_MM * size / 9)

    def code(self, text: str) -> None:
        if text:
            self._cells(text, CODE, "", 8, LINE_MM * 0.8)
            self.pdf.ln(1)

    def _cells(self, text: str, family: str, style: str, size: int, height: float) -> None:
        text = text.expandtabs(8)
        if is_latin(text) or not (loaded := self._host_fonts()):
            text = self._spelled(text.replace("…", "..."), [range(0x20, 0x7F), range(0xA0, 0x100)])
            self.pdf.set_font(family, style=style, size=size)
        else:
            text = self._spelled(text, [letters for _, letters in loaded])
            self.pdf.set_font(loaded[0][0], size=size)
        self.pdf.multi_cell(0, height, text, align="L", wrapmode="CHAR", new_x="LMARGIN", new_y="NEXT")

    def _spelled(self, text: str, known: Sequence[Container[int]]) -> str:
        written = spelled(text, known)
        self.is_lacking |= written != text
        return written

    def _host_fonts(self) -> list[tuple[str, Container[int]]]:
        """Read when the first letter needs them. One that cannot be read is left out, and the log says so."""
        if self._loaded is None:
            self._loaded = []
            for number, path in enumerate(self._fonts):
                name = f"host{number}"
                try:
                    self.pdf.add_font(name, fname=path)
                except Exception:
                    # The library that reads fonts raises whatever a damaged file makes it stumble over.
                    log.exception("a font of reports is left out", path=str(path))
                    continue
                self._loaded.append((name, self.pdf.fonts[name].cmap))
            self.pdf.set_fallback_fonts([name for name, _ in self._loaded[1:]], exact_match=False)
        return self._loaded


def as_pdf(content: Content, fonts: Sequence[Path] = ()) -> bytes:
    """`fonts` write what Latin-1 has not, the first that knows a letter. Raises NoPaper."""
    try:
        fpdf: Any = importlib.import_module("fpdf")
    except ImportError as error:
        raise NoPaper(NO_PDF) from error
    said: Any = words(content)
    paper = Paper(fpdf, fonts)
    paper.pdf.set_title(said["heading"])
    paper.pdf.add_page()
    paper.text(said["heading"], size=16, style="B")
    paper.text(f"run {said['run']['id']}")
    paper.lines(f"{name}: {value}" for name, value in said["facts"])
    paper.code(said["run"]["error_message"])
    _work(paper, said)
    _artifacts(paper, said["artifacts"], said["artifacts_left_out"])
    paper.title("Events")
    paper.lines(
        " ".join(filter(None, (e["at"], e["type"], e["reason"], e["actor"], e["note"]))) for e in said["events"]
    )
    paper.title("Log")
    for each in said["logs"]:
        _log(paper, each)
    if paper.is_lacking:
        paper.title("Letters")
        paper.text(LACKING)
    return bytes(paper.pdf.output())


def _work(paper: Paper, said: Any) -> None:
    """What was run, with what, how often, and what came of it."""
    paper.title("Commands")
    for command in said["commands"]:
        paper.code(command)
    if said["variables"]:
        paper.title("Variables")
        paper.lines(f"{each['name']} = {each['value']}" for each in said["variables"])
    paper.title("Attempts")
    paper.lines(_attempt(each) for each in said["attempts"])
    if said["progress_text"]:
        paper.title("Progress")
        paper.text(said["progress_text"])
    if said["result_text"]:
        paper.title("Result")
        paper.code(said["result_text"])


def _attempt(each: Any) -> str:
    end = "" if each["exit_code"] is None else f", exit code {each['exit_code']}"
    took = "" if each["duration_s"] is None else f", {each['duration_s']} s"
    return f"attempt {each['number']} on {each['runner']}: {each['state']} {each['reason'] or ''}{end}{took}"


def _artifacts(paper: Paper, artifacts: Any, left_out: int) -> None:
    if not artifacts:
        return
    paper.title("Artifacts")
    for each in artifacts:
        paper.text(f"{each['name']}: {each['size_bytes']} bytes, {each['state']}, attempt {each['attempt']}")
        paper.code(each["sha256"])
    if left_out:
        paper.text(f"... and {left_out} more")


def _log(paper: Paper, each: Any) -> None:
    incomplete = "" if each["complete"] else ", incomplete"
    paper.text(f"Attempt {each['attempt']}: {each['bytes']} bytes{incomplete}", style="B")
    if each["missing"]:
        paper.text(each["missing"])
        return
    paper.code(each["head"])
    if each["left_out_bytes"]:
        paper.text(f"... {each['left_out_bytes']} bytes ...")
        paper.code(each["tail"])
