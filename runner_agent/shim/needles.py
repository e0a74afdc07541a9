"""The forms in which a secret may show up in a log: raw, by lines, and as common encodings of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

MIN_NEEDLE_BYTES = 8
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def is_maskable(secret: bytes) -> bool:
    """Whether the value is long enough to be masked; shorter ones would tear holes into ordinary text."""
    return len(secret.strip()) >= MIN_NEEDLE_BYTES


def derive_needles(secret: bytes) -> frozenset[bytes]:
    """Every byte string to look for, each of at least 8 bytes. Empty for a secret that is too short."""
    if not is_maskable(secret):
        return frozenset()
    return frozenset(needle for needle in _forms(secret) if len(needle) >= MIN_NEEDLE_BYTES)


def _forms(secret: bytes) -> Iterator[bytes]:
    trimmed = secret.strip()
    for value in {secret, trimmed}:
        yield value
        yield from _line_forms(value)
        yield from _encoded(value)
    lines = trimmed.splitlines()
    if len(lines) > 1:
        yield b"\r\n".join(lines)
        yield b" ".join(line.strip() for line in lines)  # what an unquoted expansion in a shell prints
        for line in lines:
            yield line.strip()


def _line_forms(value: bytes) -> Iterator[bytes]:
    yield value.replace(b"'", b"'\\''")
    yield value.replace(b"'", b"'\"'\"'")
    yield value.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"$", b"\\$").replace(b"`", b"\\`")
    yield value.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;").replace(b'"', b"&quot;")


def _encoded(value: bytes) -> Iterator[bytes]:
    yield value.hex().encode()
    yield value.hex().upper().encode()
    for safe in (b"", b"/", b"!*'()"):
        quoted = _percent_encoded(value, safe)
        yield quoted.encode()
        yield quoted.replace("%20", "+").encode()
        yield _lower_escapes(quoted).encode()
    for shift in range(3):
        for altchars in (None, b"-_"):
            yield _base64_core(value, shift, altchars)
    text = value.decode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape")
        yield escaped
        yield escaped.replace(b"/", b"\\/")


def _base64_core(value: bytes, shift: int, altchars: bytes | None) -> bytes:
    """The characters of base64 that depend on `value` alone when `shift` unknown bytes stand before it."""
    encoded = base64.b64encode(b"\0" * shift + value, altchars)
    return encoded[(0, 2, 3)[shift] : (shift + len(value)) * 8 // 6]


def _percent_encoded(value: bytes, safe: bytes) -> str:
    kept = _UNRESERVED + safe
    return "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in value)


def _lower_escapes(quoted: str) -> str:
    parts = quoted.split("%")
    return parts[0] + "".join("%" + part[:2].lower() + part[2:] for part in parts[1:])
