"""Whatever a program prints, the terminal gets text and colours."""

from __future__ import annotations

import itertools
import re

from hypothesis import example, given
from hypothesis import strategies as st

from control_plane.cli.terminal import Sanitiser

PIECES = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.text(max_size=8).map(str.encode),
        st.sampled_from(
            [
                b"\x1b",
                b"\x1b[",
                b"\x1b]0;title\x07",
                b"\x1b]8;;http://x\x1b\\",
                b"\x1b[31m",
                b"\x1b[0m",
                b"\x1b[2J",
                b"\x1b[?1049h",
                b"\x1b[6n",
                b"\x1bP$q\x1b\\",
                b"\x1b(0",
                b"\xc2\x9b31m",
                b"\xc2\x9d0;x\x07",
                b"\x9b2J",
                b"\r",
                b"\n",
                b"\t",
                b"\x08",
                b"\x07",
                "ü€😀".encode(),
            ]
        ),
    ),
    max_size=30,
).map(b"".join)
SGR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def safe(data: bytes, cuts: list[int] | None = None) -> bytes:
    sanitiser = Sanitiser()
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    parts = [data[start:end] for start, end in itertools.pairwise(marks)]
    return b"".join(sanitiser.feed(part) for part in parts) + sanitiser.finish()


@given(PIECES)
@example(b"\x1b[" + b"1;" * 100 + b"m")
def test_nothing_but_colours_and_line_ends_passes(data: bytes) -> None:
    shown = safe(data).decode("utf-8")
    assert not FORBIDDEN.search(SGR.sub("", shown))


@given(PIECES, st.lists(st.integers(min_value=0), max_size=6))
def test_the_cut_between_chunks_does_not_matter(data: bytes, cuts: list[int]) -> None:
    assert safe(data, cuts) == safe(data)


@given(PIECES)
def test_what_is_safe_stays_as_it_is(data: bytes) -> None:
    once = safe(data)
    assert safe(once) == once


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs"))))
def test_text_passes(text: str) -> None:
    assert safe(text.encode()).decode() == text


def test_a_title_is_swallowed_with_its_text() -> None:
    assert safe(b"a\x1b]0;owned\x07b\x1b[2Jc\x1b[31mred\x1b[0md\r\n") == b"abc\x1b[31mred\x1b[0md\r\n"


def test_a_string_that_nobody_ends_does_not_swallow_the_next_line() -> None:
    assert safe(b"a\x1b]0;never ended\nshown\n") == b"a\nshown\n"
    assert safe(b"\x1bP" + b"x" * 70_000 + b"shown").endswith(b"xshown")


def test_a_colour_that_was_left_on_is_ended() -> None:
    assert safe(b"\x1b[1;31mred") == b"\x1b[1;31mred\x1b[0m"


def test_invalid_utf8_is_visible() -> None:
    assert safe(b"a\xffb") == "a\ufffdb".encode()
