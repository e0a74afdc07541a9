"""Reports on paper: letters beyond Latin-1 come out by a font of the host, or are spelled out where it has none."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from control_plane.domain.extras import NO_PDF
from control_plane.reports.content import Content
from control_plane.reports.fonts import is_latin, of_this_host, spelled
from control_plane.reports.paper import LACKING, NoPaper, as_pdf

LATIN = "".join(map(chr, range(0x20, 0x7F)))


def content(head: str, *, task: str = "build") -> Content:
    none: Content = {}
    return {
        "run": {"id": "019a", "title": "", "state": "FAILED", "error_message": "", "exit_code": 3, "labels": none}
        | dict.fromkeys(
            ("created_by", "trigger_type", "signal", "cancelled_by", "cancel_note", "retry_of", "cost_usd")
        ),
        "task": {"name": task},
        "project": {"name": "default"},
        "timing": dict.fromkeys(("created_at", "started_at", "completed_at", "queued_s", "duration_s")),
        "commands": [],
        "variables": [],
        "attempts": [],
        "result": None,
        "progress": None,
        "artifacts": [],
        "artifacts_left_out": 0,
        "events": [],
        "logs": [{"attempt": 1, "bytes": 9, "complete": True, "missing": "", "head": head, "left_out_bytes": 0}],
    }


def font(path: Path, letters: Iterable[str]) -> Path:
    """A font that knows these letters; all look alike."""
    codes = {ord(each): f"g{ord(each):x}" for each in letters}
    names = [".notdef", *codes.values()]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((500, 0))
    pen.lineTo((250, 700))
    pen.closePath()
    made = FontBuilder(1_000, isTTF=True)
    made.setupGlyphOrder(names)
    made.setupCharacterMap(codes)
    made.setupGlyf(dict.fromkeys(names, pen.glyph()))
    made.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(path)
    return path


def printed(pdf: bytes) -> str:
    """What a reader of the pages copies out of them: codes of embedded fonts go through the font's own table."""
    streams = [_inflated(each) for each in re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL)]
    tables = [dict(re.findall(rb"<(\w{4})> <(\w+)>", each)) for each in streams if b"beginbfchar" in each]
    lines = []
    for text in re.findall(rb"\((.*?)(?<!\\)\) Tj", b"\n".join(each for each in streams if b" Tj" in each), re.DOTALL):
        raw = re.sub(rb"\\(.)", lambda each: {b"r": b"\r", b"n": b"\n"}.get(each[1], each[1]), text, flags=re.DOTALL)
        lines.append(_through(raw, tables) if b"\x00" in raw else raw.decode("latin-1"))
    return "\n".join(lines)


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def _through(raw: bytes, tables: list[dict[bytes, bytes]]) -> str:
    codes = [raw[at : at + 2].hex().upper().encode() for at in range(0, len(raw), 2)]
    (fitting, *_) = [each for each in tables if all(code in each for code in codes)]
    return "".join(bytes.fromhex(fitting[code].decode()).decode("utf-16-be") for code in codes)


def test_latin_needs_no_font_of_the_host() -> None:
    pdf = as_pdf(content("Größe … naïve\ttab"))
    assert b"/FontFile" not in pdf
    assert "Größe ... naïve   tab" in printed(pdf)
    assert LACKING not in printed(pdf)


def test_other_letters_take_a_font_of_the_host(tmp_path: Path) -> None:
    fonts = (font(tmp_path / "cyrillic.ttf", LATIN + "Привет…"), font(tmp_path / "signs.ttf", "✓漢"))
    pdf = as_pdf(content("Привет… world\n漢", task="При"), fonts)
    text = printed(pdf)
    assert "Привет… world" in text
    assert any(b"<6F22>" in _inflated(each) for each in re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL))
    assert "При: FAILED" in text
    assert LACKING not in text


def test_letters_that_no_font_knows_are_spelled_out_and_the_page_says_so(tmp_path: Path) -> None:
    fonts = (font(tmp_path / "cyrillic.ttf", LATIN + "Привет"),)
    text = printed(as_pdf(content("Привет \U0001f600 é"), fonts))
    assert "Привет <U+1F600> <U+00E9>" in text
    assert LACKING in text
    assert "При <U+1F600>".replace("При", "<U+041F><U+0440><U+0438>") in printed(as_pdf(content("При \U0001f600")))


def test_what_is_no_font_is_left_out(tmp_path: Path) -> None:
    other, missing = tmp_path / "font.txt", tmp_path / "missing.ttf"
    other.touch()
    good = font(tmp_path / "good.ttf", LATIN + "П")
    assert "П" in printed(as_pdf(content("П"), (other, missing, good)))
    assert "<U+041F>" in printed(as_pdf(content("П"), (missing,)))


def test_fonts_are_found_by_name_or_as_the_operator_says(tmp_path: Path) -> None:
    for name in ("b/NotoSans-Regular.ttf", "a/deep/DejaVuSans.ttf", "a/Other.ttf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert of_this_host("", [str(tmp_path), str(tmp_path / "none")]) == (
        tmp_path / "a/deep/DejaVuSans.ttf",
        tmp_path / "b/NotoSans-Regular.ttf",
    )
    assert of_this_host(" /x/one.ttf, /x/two.otf ", [str(tmp_path)]) == (Path("/x/one.ttf"), Path("/x/two.otf"))


def test_spelling() -> None:
    assert spelled("a\u0416\n", [{ord("a")}]) == "a<U+0416>\n"
    assert is_latin("é\n~")
    assert not is_latin("\u20ac")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fpdf", None)
    with pytest.raises(NoPaper, match=re.escape(NO_PDF)):
        as_pdf(content("x"))
