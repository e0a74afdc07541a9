"""The filter language of lists, a part of AIP-160: fields, comparisons, AND, OR, NOT and parentheses.

As in AIP-160, OR binds tighter than AND: `a = 1 AND b = 2 OR b = 3` means a = 1 and (b = 2 or b = 3).
Comparisons that stand side by side are joined by AND. The result holds values only, never text of a query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NoReturn, TypeAlias

from control_plane.domain import limits
from control_plane.domain.errors import FieldViolation, invalid_fields


class Kind(StrEnum):
    """What a field holds."""

    # One of some words.
    WORD = "WORD"
    # A text, compared as a whole; with `*` at its end it compares the beginning.
    TEXT = "TEXT"
    # A thing by its id or name.
    NAMED = "NAMED"
    TIME = "TIME"
    FLAG = "FLAG"
    # Several texts, such as tags.
    SET = "SET"
    # Texts by key: `label.KEY`, and `label : KEY` for the key alone.
    MAP = "MAP"


class Operator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    HAS = ":"


_O = Operator
OPERATORS: Mapping[Kind, tuple[Operator, ...]] = {
    Kind.WORD: (_O.EQUAL, _O.NOT_EQUAL),
    Kind.TEXT: (_O.EQUAL, _O.NOT_EQUAL),
    Kind.NAMED: (_O.EQUAL, _O.NOT_EQUAL),
    Kind.TIME: (_O.EQUAL, _O.NOT_EQUAL, _O.LESS, _O.AT_MOST, _O.GREATER, _O.AT_LEAST),
    Kind.FLAG: (_O.EQUAL, _O.NOT_EQUAL),
    Kind.SET: (_O.HAS, _O.EQUAL, _O.NOT_EQUAL),
    Kind.MAP: (_O.EQUAL, _O.NOT_EQUAL, _O.HAS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field that a list can be filtered by; `words` are the values of a WORD."""

    kind: Kind
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison. `key` is only for a MAP; `prefix` says that the text is a beginning."""

    field: str
    operator: Operator
    value: str | bool | datetime
    key: str = ""
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Some:
    parts: tuple[Filter, ...]


Filter: TypeAlias = Comparison | Not | All | Some

EVERYTHING = All(())
DEEPEST = 16


def parse_filter(text: str, fields: Mapping[str, Field], *, where: str = "filter") -> Filter:
    """The filter that a text describes; an empty one is EVERYTHING.

    Raises InvalidArgument that names the request's field `where`, the character, and what is wrong there.
    """
    if len(text.encode()) > limits.FILTER_BYTES:
        raise _refused(where, f"must have at most {limits.FILTER_BYTES} bytes")
    if not text.strip():
        return EVERYTHING
    return _Parser(text, fields, where).whole()


_BLANK = re.compile(r"\s*")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?")
_OPERATOR = re.compile(r"!=|<=|>=|=|<|>|:")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_BARE = re.compile(r"[^\s()\"',]+")
_WORD = re.compile(r"(AND|OR|NOT)\b")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class _Parser:
    """By recursive descent; every refusal says at which character."""

    def __init__(self, text: str, fields: Mapping[str, Field], where: str) -> None:
        self._text, self._fields, self._where = text, fields, where
        self._at = 0
        self._comparisons = 0
        self._depth = 0

    def whole(self) -> Filter:
        found = self._every()
        if self._at < len(self._text):
            self._refuse("there is something behind the filter's end")
        return found

    def _every(self) -> Filter:
        parts = [self._any()]
        while self._more():
            self._take_word("AND")
            parts.append(self._any())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _any(self) -> Filter:
        parts = [self._one()]
        while self._take_word("OR"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _one(self) -> Filter:
        self._depth += 1
        if self._depth > DEEPEST:
            self._refuse(f"parentheses and negations are nested deeper than {DEEPEST}")
        try:
            if self._take_word("NOT") or self._take("-"):
                return Not(self._one())
            if not self._take("("):
                return self._comparison()
            inner = self._every()
            if not self._take(")"):
                self._refuse("a closing parenthesis is missing")
            return inner
        finally:
            self._depth -= 1

    def _comparison(self) -> Comparison:
        self._comparisons += 1
        if self._comparisons > limits.FILTER_COMPARISONS:
            self._refuse(f"more than {limits.FILTER_COMPARISONS} comparisons")
        start = self._skip()
        name = self._match(_FIELD)
        if name is None:
            self._refuse("a field is expected")
        field = self._fields.get(name)
        if field is None:
            self._refuse(f"there is no field {name[:80]!r}; there are {', '.join(self._fields)}", start)
        key = self._key(field, name)
        operator = self._operator(field, name, key)
        self._skip()
        at = self._at
        text, prefix, quoted = self._value()
        value = self._typed(field, operator, text, at, quoted=quoted)
        if prefix and not (field.kind is Kind.TEXT and operator in (_O.EQUAL, _O.NOT_EQUAL)):
            value = self._typed(field, operator, text + "*", at, quoted=quoted)
            prefix = False
        return Comparison(field=name, operator=operator, value=value, key=key, prefix=prefix)

    def _key(self, field: Field, name: str) -> str:
        if not self._text.startswith(".", self._at):
            return ""
        if field.kind is not Kind.MAP:
            self._refuse(f"{name} has no parts")
        self._at += 1
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is not None:
            self._at = quoted.end()
            return _plain(quoted)
        key = self._match(_KEY)
        if key is None:
            self._refuse("a key is expected")
        return key

    def _operator(self, field: Field, name: str, key: str) -> Operator:
        start = self._skip()
        found = self._match(_OPERATOR)
        if found is None:
            self._refuse("one of = != < <= > >= : is expected")
        operator = Operator(found)
        allowed = OPERATORS[field.kind]
        if field.kind is Kind.MAP:
            allowed = (_O.EQUAL, _O.NOT_EQUAL) if key else (_O.HAS,)
        if operator not in allowed:
            whole = f"{name}.{key}" if key else name
            self._refuse(f"{whole} can be compared with {' '.join(allowed)} only", start)
        return operator

    def _value(self) -> tuple[str, bool, bool]:
        """(text, whether a `*` stood behind it, whether it was quoted)."""
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is not None:
            self._at = quoted.end()
            raw = quoted[1] if quoted[1] is not None else quoted[2]
            starred = raw.endswith("*") and (len(raw) - len(raw[:-1].rstrip("\\")) - 1) % 2 == 0
            return _ESCAPED.sub(r"\1", raw[:-1] if starred else raw), starred, True
        self._skip()
        if self._text[self._at : self._at + 1] in tuple("=<>!"):
            self._refuse(f"{self._text[self._at]!r} begins no value, but in quotes: operators are = != < <= > >= :")
        bare = self._match(_BARE)
        if bare is None:
            self._refuse("a value is expected")
        return (bare[:-1], True, False) if bare.endswith("*") else (bare, False, False)

    def _typed(self, field: Field, operator: Operator, text: str, at: int, *, quoted: bool) -> str | bool | datetime:
        match field.kind:
            case Kind.WORD:
                if text.upper() not in field.words:
                    self._refuse(f"must be one of {', '.join(field.words)}", at)
                return text.upper()
            case Kind.FLAG:
                if text.lower() not in ("true", "false"):
                    self._refuse("must be true or false", at)
                return text.lower() == "true"
            case Kind.TIME:
                return self._time(text, at)
            case _:
                if "\0" in text:
                    self._refuse("must not hold NUL", at)
                return text

    def _time(self, text: str, at: int) -> datetime:
        try:
            found = datetime.fromisoformat(text)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except (ValueError, OverflowError):
            self._refuse('must be a time such as "2026-01-31T08:00:00Z"', at)

    def _more(self) -> bool:
        self._skip()
        return self._at < len(self._text) and self._text[self._at] != ")"

    def _take_word(self, word: str) -> bool:
        self._skip()
        found = _WORD.match(self._text, self._at)
        if found is None or found[1] != word:
            return False
        self._at = found.end()
        return True

    def _take(self, character: str) -> bool:
        self._skip()
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def _skip(self) -> int:
        found = _BLANK.match(self._text, self._at)
        self._at = self._at if found is None else found.end()
        return self._at

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _refuse(self, what: str, at: int | None = None) -> NoReturn:
        raise _refused(self._where, f"at character {(self._at if at is None else at) + 1}: {what}")


def _plain(quoted: re.Match[str]) -> str:
    return _ESCAPED.sub(r"\1", quoted[1] if quoted[1] is not None else quoted[2])


def _refused(where: str, what: str) -> Exception:
    return invalid_fields(FieldViolation(field=where, description=what))
