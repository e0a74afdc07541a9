"""Shape of tokens: bnk_<kind>_<30 base62><6 base62 of CRC-32>; junk is refused before the database is asked."""

from __future__ import annotations

import hashlib
import re
import string
import zlib
from enum import StrEnum

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
BODY_LENGTH = 30
CHECK_LENGTH = 6
# More than 178 bits, so that taking the remainder favours no character measurably.
ENTROPY_BYTES = 32

_SHAPE = re.compile(r"\Abnk_([a-z]+)_([0-9A-Za-z]{30})([0-9A-Za-z]{6})\Z", re.ASCII)


class TokenKind(StrEnum):
    """What a secret opens; part of its text, so that a scanner and a person can tell."""

    USER = "user"
    SERVICE = "svc"
    JOIN = "join"


KINDS = frozenset(kind.value for kind in TokenKind)


def mint(kind: TokenKind, entropy: bytes) -> str:
    """Make a token's text.

    Args:
        entropy: at least 32 random bytes.
    """
    if len(entropy) < ENTROPY_BYTES:
        raise ValueError(f"a token needs {ENTROPY_BYTES} random bytes")
    head = f"bnk_{kind}_{_base62(int.from_bytes(entropy, 'big'), BODY_LENGTH)}"
    return head + _check(head)


def kind_of(text: str) -> TokenKind | None:
    """The kind of a well-formed token, or None for anything else: wrong length, alphabet, kind or checksum."""
    match = _SHAPE.match(text) if len(text) <= 64 else None
    if match is None or match[1] not in KINDS or _check(text[:-CHECK_LENGTH]) != match[3]:
        return None
    return TokenKind(match[1])


def digest(secret: str) -> str:
    """What is stored of a secret: SHA-256, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _check(head: str) -> str:
    return _base62(zlib.crc32(head.encode()), CHECK_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
