"""Headers of a webhook to the Standard Webhooks 1.0 convention."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

PREFIX = b"whsec_"


def headers(delivery_id: str, timestamp: int, payload: bytes, secret: bytes | None) -> dict[str, str]:
    """Id, time of this attempt in seconds since 1970, and with a secret the signature over both and the body."""
    found = {"webhook-id": delivery_id, "webhook-timestamp": str(timestamp)}
    if secret is not None:
        signed = f"{delivery_id}.{timestamp}.".encode() + payload
        digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
        found["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return found


def key_of(secret: bytes) -> bytes:
    """The key in a secret: behind "whsec_" in base64, else its bytes as they are. Raises ValueError."""
    text = secret.strip()
    if not text.startswith(PREFIX):
        return secret
    try:
        return base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("the signing secret is not base64 behind whsec_") from error
