"""Fonts for reports on paper: which of the host's files know which letters, and what stands for letters none knows."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path

FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts")
# In the order of preference. DejaVu comes with most hosts and knows Latin, Greek, Cyrillic, Hebrew, Arabic and signs;
# the others add what Asia writes.
FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "DroidSansFallbackFull.ttf",
    "NotoSansSymbols2-Regular.ttf",
    "unifont.ttf",
)


def of_this_host(named: str = "", folders: Iterable[str] = FOLDERS) -> tuple[Path, ...]:
    """The files that are named, with commas between them; else those that hosts usually have, in a fixed order."""
    if named.strip():
        return tuple(Path(part.strip()) for part in named.split(",") if part.strip())
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.tt[fc]")):
            found.setdefault(path.name, path)
    return tuple(found[name] for name in FILES if name in found)


def spelled(text: str, known: Sequence[Container[int]]) -> str:
    """The text, with the code points of letters that no font knows: they are seen, and can be told apart."""
    return "".join(each if _is_known(ord(each), known) else f"<U+{ord(each):04X}>" for each in text)


def _is_known(letter: int, known: Sequence[Container[int]]) -> bool:
    return letter == 0x0A or any(letter in each for each in known)


def is_latin(text: str) -> bool:
    """Whether the fonts that every reader of PDF has know all of it."""
    return text.isascii() or all(ord(each) < 0x7F or 0xA0 <= ord(each) <= 0xFF or each == "\n" for each in text)
