"""Syntax of names, labels, environment variables and notes; each rule names its field and says what is wrong."""

import re
import unicodedata
from collections.abc import Iterator, Mapping

from control_plane.domain import limits
from control_plane.domain.errors import FieldViolation

_UUID_SHAPED = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LABEL_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


def violation(field: str, description: str) -> FieldViolation:
    return FieldViolation(field=field, description=description)


def check_name(name: str, field: str) -> Iterator[FieldViolation]:
    """1 to 255 printable characters in NFC, no "/", not shaped like an id, no blank at either end."""
    if not name:
        yield violation(field, "must not be empty")
    elif len(name) > limits.NAME_CHARACTERS:
        yield violation(field, f"must have at most {limits.NAME_CHARACTERS} characters, has {len(name)}")
    elif not name.isprintable():
        yield violation(field, "must hold printable characters only")
    elif name != name.strip():
        yield violation(field, "must not begin or end with a blank")
    elif "/" in name:
        yield violation(field, 'must not hold "/"')
    elif name.startswith("@"):
        yield violation(field, 'must not begin with "@"')
    elif not unicodedata.is_normalized("NFC", name):
        yield violation(field, "must be in Unicode normal form C")
    elif _UUID_SHAPED.fullmatch(name):
        yield violation(field, "must not look like an id")


def is_id(text: str) -> bool:
    """Shaped like an id: where a thing has a name, its field accepts either."""
    return _UUID_SHAPED.fullmatch(text) is not None


def check_env_name(name: str, field: str) -> Iterator[FieldViolation]:
    if not _ENV_NAME.fullmatch(name):
        yield violation(field, "must match [A-Za-z_][A-Za-z0-9_]{0,127}")
    elif name.startswith("BANKSMAN_"):
        yield violation(field, "must not begin with BANKSMAN_")


def check_secret_name(name: str, field: str) -> Iterator[FieldViolation]:
    if not _ENV_NAME.fullmatch(name):
        yield violation(field, "must match [A-Za-z_][A-Za-z0-9_]{0,127}")


def check_label_key(key: str, field: str) -> Iterator[FieldViolation]:
    if not _LABEL_KEY.fullmatch(key):
        yield violation(
            field, f"label key {key[:80]!r} must be 1 to 63 letters, digits, '.', '_', '/', '-', ends alphanumeric"
        )


def check_label_value(value: str, field: str) -> Iterator[FieldViolation]:
    if not _LABEL_VALUE.fullmatch(value):
        yield violation(
            field, f"label value {value[:80]!r} must be at most 63 letters, digits, '.', '_', '-', ends alphanumeric"
        )


def check_labels(labels: Mapping[str, str], field: str) -> Iterator[FieldViolation]:
    if len(labels) > limits.LABELS:
        yield violation(field, f"at most {limits.LABELS} labels, are {len(labels)}")
    for key, value in labels.items():
        yield from check_label_key(key, field)
        yield from check_label_value(value, f"{field}[{key}]")


def check_tags(tags: tuple[str, ...], field: str) -> Iterator[FieldViolation]:
    if len(tags) > limits.TAGS:
        yield violation(field, f"at most {limits.TAGS} tags, are {len(tags)}")
    for index, tag in enumerate(tags):
        if not 1 <= len(tag) <= limits.LABEL_VALUE_CHARACTERS or not tag.isprintable():
            yield violation(f"{field}[{index}]", f"must be 1 to {limits.LABEL_VALUE_CHARACTERS} printable characters")


def check_text(text: str, field: str, most_bytes: int) -> Iterator[FieldViolation]:
    """Free text for people: no NUL, bounded."""
    size = len(text.encode())
    if size > most_bytes:
        yield violation(field, f"must have at most {most_bytes} bytes, has {size}")
    if "\0" in text:
        yield violation(field, "must not hold NUL")


def check_request_id(request_id: str, field: str = "request_id") -> Iterator[FieldViolation]:
    if len(request_id) > limits.REQUEST_ID_CHARACTERS:
        yield violation(field, f"must have at most {limits.REQUEST_ID_CHARACTERS} characters")
    elif request_id and not request_id.isprintable():
        yield violation(field, "must hold printable characters only")
