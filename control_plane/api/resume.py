"""Resume tokens of a watch: opaque, and good for the watch that gave them only."""

from __future__ import annotations

import base64
import binascii
import hashlib

from control_plane.domain.errors import ErrorCode, InvalidArgument
from control_plane.domain.filters import EVERYTHING
from control_plane.storage.reads import EventFilter

_DIGEST_BYTES = 12
_NUMBER_BYTES = 8


def seal(wanted: EventFilter, number: int) -> str:
    """The token behind change `number`."""
    body = number.to_bytes(_NUMBER_BYTES, "big")
    return base64.urlsafe_b64encode(_digest(wanted, body) + body).decode().rstrip("=")


def unseal(wanted: EventFilter, token: str) -> int:
    """The change to go on behind. Raises InvalidArgument RESUME_TOKEN_INVALID for any other text."""
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _invalid() from None
    digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if len(body) != _NUMBER_BYTES or digest != _digest(wanted, body):
        raise _invalid()
    return int.from_bytes(body, "big")


def _digest(wanted: EventFilter, body: bytes) -> bytes:
    filtered = () if wanted.matching == EVERYTHING else (repr(wanted.matching),)
    scope = "|".join((wanted.project_id, wanted.run_id or "", wanted.task_id or "", *filtered))
    return hashlib.sha256(scope.encode() + b"\0" + body).digest()[:_DIGEST_BYTES]


def _invalid() -> InvalidArgument:
    return InvalidArgument(ErrorCode.RESUME_TOKEN_INVALID, hint="Start the watch again without a resume token.")
