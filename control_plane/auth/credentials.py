"""Runner credentials: short-lived, signed by this instance, bound to a runner and its key, and stored nowhere."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from control_plane.domain.errors import ErrorCode, Unauthenticated
from control_plane.domain.ids import RunnerId
from control_plane.domain.runner import Runner

PREFIX = "bnk_cred_"
LONGEST = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a valid credential says."""

    runner_id: RunnerId
    key_fingerprint: str
    generation: int
    expires_at: datetime

    def is_of(self, runner: Runner) -> bool:
        """Whether it was issued for the runner as it is now: its key, and no revocation or replacement since."""
        return (
            self.key_fingerprint == fingerprint(runner.public_key) and self.generation == runner.credential_generation
        )


def fingerprint(public_key: bytes) -> str:
    """A runner's key in 32 hex digits."""
    return hashlib.sha256(public_key).hexdigest()[:32]


class CredentialPress:
    """Issues and checks credentials with a key that never leaves this process."""

    def __init__(self, instance_secret: bytes, *, lifetime_s: float) -> None:
        self._key = hmac.digest(instance_secret, b"banksman runner credential", "sha256")
        self._lifetime_s = lifetime_s

    def issue(self, runner: Runner, now: datetime) -> tuple[str, datetime]:
        """A credential and its end."""
        expires_at = datetime.fromtimestamp(int((now + timedelta(seconds=self._lifetime_s)).timestamp()), UTC)
        words = (runner.id, fingerprint(runner.public_key), runner.credential_generation, int(expires_at.timestamp()))
        payload = "|".join(str(word) for word in words).encode()
        return f"{PREFIX}{_encode(payload)}.{_encode(self._sign(payload))}", expires_at

    def check(self, text: str, now: datetime) -> Claim:
        """What a credential claims. Raises Unauthenticated: not ours, altered, or expired."""
        payload = self._open(text)
        runner_id, key_fingerprint, generation, expires = payload.decode().split("|")
        expires_at = datetime.fromtimestamp(int(expires), UTC)
        if now >= expires_at:
            raise Unauthenticated(ErrorCode.CREDENTIAL_EXPIRED)
        return Claim(
            runner_id=RunnerId(runner_id),
            key_fingerprint=key_fingerprint,
            generation=int(generation),
            expires_at=expires_at,
        )

    def _open(self, text: str) -> bytes:
        head, dot, signature = text.removeprefix(PREFIX).partition(".")
        if not dot or len(text) > LONGEST or not text.startswith(PREFIX):
            raise Unauthenticated(ErrorCode.TOKEN_INVALID)
        try:
            payload, given = _decode(head), _decode(signature)
        except (binascii.Error, ValueError):
            raise Unauthenticated(ErrorCode.TOKEN_INVALID) from None
        if not hmac.compare_digest(given, self._sign(payload)):
            raise Unauthenticated(ErrorCode.TOKEN_INVALID)
        return payload

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
