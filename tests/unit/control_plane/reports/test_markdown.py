"""Words in Markdown reports: read back by a real parser they are what was said, and most need no escape."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from control_plane.reports.markdown import block, cell, code, inline, line

READER = MarkdownIt("commonmark").enable(["strikethrough", "table"])
SIGNS = st.text(alphabet="\\`*_{}[]()#+-.!<>&;=~| 1a/\té:x", max_size=24)


def read(markdown: str) -> tuple[list[str], str]:
    """The kinds of its blocks, and all of its text."""
    blocks, text = [], ""
    for token in READER.parse(markdown):
        if token.type.endswith("_open"):
            blocks.append(token.type.removesuffix("_open"))
        for child in token.children or ():
            assert child.type in ("text", "text_special"), child
            text += child.content
    return blocks, text


@pytest.mark.parametrize(
    "text",
    [
        "greet-yard: SUCCEEDED", "v1.2-rc+3", "a_b_c", "1 > 0 & 2 < 3", "50 % (done)!", "C# and F#", "2 * 3", "~/x",
        "{a}", "x | y", "C:\\temp", "AT&T", "1.5", "-x", "#3",
    ],
)  # fmt: skip
def test_what_is_no_markup_stays_as_it_is(text: str) -> None:
    assert (inline(text), line(text)) == (text, text)


@given(SIGNS)
@example("<b>x</b>")
@example("[x](y)")
@example("~~x~~")
@example("a &amp; b")
@example("__init__")
@example("trailing \\")
def test_words_of_a_heading_are_read_as_they_were_said(text: str) -> None:
    said = " ".join(f"x{text}x: OK".split())
    assert read(f"# {inline(said)}") == (["heading"], said)


@given(SIGNS)
@example("# x")
@example("- x")
@example("12) x")
@example("---")
@example("===")
@example("> x")
@example("```")
@example("~~~ x")
@example("* * *")
def test_a_line_of_words_is_a_paragraph(text: str) -> None:
    said = " ".join(text.split())
    assert read(line(said)) == (["paragraph"] if said else [], said)


@given(SIGNS)
def test_code_is_code_in_a_line_and_in_a_table(text: str) -> None:
    said = " ".join(text.split("\n")).strip()
    if said:
        (_, inner, _) = READER.parse(f"x {code(text)}")
        assert [each.content for each in inner.children or ()] == ["x ", said]
        cells = [token for token in READER.parse(f"|a|b|\n|---|---|\n|{cell(text)}|y|") if token.type == "inline"]
        assert [each.content for each in cells[2].children or ()] == [said]
        assert cells[3].content == "y"


@given(SIGNS)
def test_a_block_ends_where_it_should(text: str) -> None:
    (token,) = READER.parse(block(text))
    assert (token.type, token.content) == ("fence", f"{text}\n")
