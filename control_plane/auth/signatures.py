"""Proofs of a runner's key: the exact texts that are signed, and a window in which each signature counts once."""

from __future__ import annotations

from collections import OrderedDict

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PUBLIC_KEY_BYTES = 32
NONCE_BYTES = range(16, 65)
# How far a runner's clock may be off, either way. A nonce is remembered for as long as its signature could count.
WINDOW_S = 300
MOST_NONCES = 100_000


def enrolment_text(join_token: str, name: str) -> bytes:
    """What a runner signs to prove that it has the key it enrols with."""
    return f"banksman-enroll\n{join_token}\n{name}".encode()


def renewal_text(runner_id: str, at_unix_s: int, nonce: bytes) -> bytes:
    """What a runner signs to get a new credential."""
    return f"banksman-renew\n{runner_id}\n{at_unix_s}\n{nonce.hex()}".encode()


def is_signed(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether the holder of the Ed25519 key signed exactly this text."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


class ReplayWindow:
    """Remembers used nonces for as long as their signatures are fresh; bounded, oldest first out."""

    def __init__(self, *, window_s: int = WINDOW_S, most: int = MOST_NONCES) -> None:
        self._window_s, self._most = window_s, most
        self._used: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def is_fresh(self, at_unix_s: int, now_unix_s: float) -> bool:
        """Whether the signing time is near enough to now."""
        return abs(now_unix_s - at_unix_s) <= self._window_s

    def use(self, runner_id: str, nonce: bytes, now_unix_s: float) -> bool:
        """Spend a nonce; False when it was spent before, or when too many are remembered to be sure."""
        while self._used and next(iter(self._used.values())) < now_unix_s - 2 * self._window_s:
            self._used.popitem(last=False)
        if (runner_id, nonce) in self._used or len(self._used) >= self._most:
            return False
        self._used[runner_id, nonce] = now_unix_s
        return True
