"""Text in Markdown that reads as it was: escaped where it would be markup, and nowhere else."""

from __future__ import annotations

import re

# What is markup wherever words stand (CommonMark, and GitHub's struck-out words).
_ALWAYS = re.compile(
    r"\\(?=[!-/:-@\[-`{-~]|$)"  # a backslash before a sign
    r"|[`\[]"  # code, links, images
    r"|<(?=[A-Za-z/!?])"  # tags, addresses
    r"|&(?=#?[0-9A-Za-z]+;)"  # entities
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis: an underscore inside a word is none
)
# Signs that work in pairs, beside something.
_PAIRED = (re.compile(r"\*(?=\S)|(?<=\S)\*"), re.compile(r"~(?=\S)|(?<=\S)~"))
# What is markup only at the beginning of a line: a numbered list, a quotation, a heading, another list, a rule.
_FIRST = re.compile(
    r"(?:\d{1,9}(?P<number>[.)])(?=\s|$)"
    r"|(?P<sign>>|#{1,6}(?=\s|$)|[-+*](?=\s|$)|-(?=\s*-[-\s]*-[-\s]*$)))"
)


def inline(value: object) -> str:
    """As words of a line that begins with something else."""
    text = " ".join(str(value).split())
    places = {match.start() for match in _ALWAYS.finditer(text)}
    for signs in _PAIRED:
        found = [match.start() for match in signs.finditer(text)]
        places.update(found if len(found) > 1 else ())
    return _escaped(text, places)


def line(value: object) -> str:
    """As a line of its own."""
    text = inline(value)
    first = _FIRST.match(text)
    return text if first is None or first.lastgroup is None else _escaped(text, {first.start(first.lastgroup)})


def code(value: object) -> str:
    """As code within a line."""
    text = " ".join(str(value).split("\n")).strip()
    fence, room = _ticks(text, 1), " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}" if text else ""


def cell(value: object) -> str:
    """As code in a table, where a bar ends the cell even in code."""
    return code(value).replace("|", "\\|")


def block(value: object) -> str:
    """As lines of code."""
    text = str(value)
    fence = _ticks(text, 3)
    return f"{fence}text\n{text.rstrip(chr(10))}\n{fence}"


def _ticks(text: str, least: int) -> str:
    """More backticks in a row than the text has."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _escaped(text: str, places: set[int]) -> str:
    return "".join(f"\\{letter}" if index in places else letter for index, letter in enumerate(text))
