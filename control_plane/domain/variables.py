"""Variables: `{{ name }}` in prompts, argv elements and env values, replaced by text that is never looked at again.

`{{{{` is written for a literal `{{`. A single brace, and whatever has not exactly this shape, is plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

NAME: re.Pattern[str] = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
ENV_PREFIX = "BANKSMAN_VAR_"
_OPEN = "{{"
_LITERAL_OPEN = "{{{{"
_TOKEN = re.compile(r"\{\{\{\{|\{\{[ \t]*([A-Za-z_][A-Za-z0-9_]{0,63})[ \t]*\}\}")


class UnknownVariables(StrEnum):
    """What becomes of a placeholder that has no value."""

    KEEP = "KEEP"
    REFUSE = "REFUSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable as a task declares it. `secret_ref` names a secret that is its default, and makes it sensitive."""

    name: str
    default_value: str | None = None
    secret_ref: str = ""
    sensitive: bool = False
    required: bool = False
    description: str = ""

    @property
    def is_sensitive(self) -> bool:
        return self.sensitive or bool(self.secret_ref)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableValue:
    """A variable as a run has it. A sensitive one has no value here: it is sealed apart, or in the secret it names."""

    name: str
    value: str = ""
    secret_ref: str = ""
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`written` is the text as it stood, blanks and all."""

    name: str
    written: str


Part: TypeAlias = str | Placeholder


def parse(text: str) -> tuple[Part, ...]:
    """Plain texts (never empty, never two in a row) and the placeholders between them."""
    parts: list[Part] = []
    plain: list[str] = []
    end = 0
    for token in _TOKEN.finditer(text):
        plain.append(text[end : token.start()])
        end = token.end()
        if token[1] is None:
            plain.append(_OPEN)
            continue
        _flush(parts, plain)
        parts.append(Placeholder(token[1], token[0]))
    plain.append(text[end:])
    _flush(parts, plain)
    return tuple(parts)


def _flush(parts: list[Part], plain: list[str]) -> None:
    if text := "".join(plain):
        parts.append(text)
    plain.clear()


def placeholders(text: str) -> tuple[str, ...]:
    """Names of the variables that a text mentions, in order, each as often as it does."""
    return tuple(match[1] for match in _TOKEN.finditer(text) if match[1] is not None)


def render(text: str, values: Mapping[str, str]) -> str:
    """The text with every known placeholder replaced, in one pass; what is not known stays as it was written."""
    if _OPEN not in text:
        return text

    def replaced(token: re.Match[str]) -> str:
        return _OPEN if token[1] is None else values.get(token[1], token[0])

    return _TOKEN.sub(replaced, text)


def escape(text: str) -> str:
    """What renders to exactly this text, whatever the values: a plain text as a part of a template."""
    return text.replace(_OPEN, _LITERAL_OPEN)


def unparse(parts: Iterable[Part]) -> str:
    """The text that parses into these parts; as short as it can be written."""
    known = tuple(parts)
    plain = "".join(part if isinstance(part, str) else part.written for part in known)
    merged = _merged(known)
    if parse(plain) == merged:
        return plain
    return "".join(escape(part) if isinstance(part, str) else part.written for part in merged)


def substitute(text: str, values: Mapping[str, str]) -> str:
    """As `render`, but what comes out is a template again: only its unknown placeholders are still placeholders.

    For templates of templates: no value can bring a placeholder of its own.
    """
    parts = parse(text)
    return unparse(
        values[part.name] if isinstance(part, Placeholder) and part.name in values else part for part in parts
    )


def _merged(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif part != "":
            merged.append(part)
    return tuple(merged)


def env_name(name: str) -> str:
    """How scripts and programs read a variable: `branch` is $BANKSMAN_VAR_BRANCH."""
    return ENV_PREFIX + name.upper()


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """The variables as a child's environment."""
    return {env_name(name): value for name, value in values.items()}
