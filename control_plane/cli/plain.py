"""Text of others made safe to print on one line: no control character survives."""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def plain(text: str) -> str:
    """The text with every run of control characters as one space."""
    return CONTROL.sub(" ", text)
