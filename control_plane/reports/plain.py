"""Text that shows what was printed and steers nothing: no escapes, no control characters, no turned directions."""

from __future__ import annotations

import re

# Whole sequences first, so that their parameters do not stay behind as text.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"
)
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)


def plain(text: str | bytes) -> str:
    """Newlines and tabs stay; a carriage return before a newline goes."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _CONTROLS.sub("", text)


def cut(text: str, characters: int) -> str:
    """At most so many characters, and how many were left out."""
    if len(text) <= characters:
        return text
    return f"{text[:characters]} … ({len(text) - characters} characters more)"
