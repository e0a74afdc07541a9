"""The key that signs the heads of the audit trail: a 0600 file beside the database, never in it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_plane.auth.keyfile import read_or_make_key
from control_plane.auth.signatures import is_signed


class AuditKey:
    """An Ed25519 key."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._key.public_key().public_bytes_raw()

    @classmethod
    def at(cls, path: Path, fresh: bytes) -> AuditKey:
        """The key in the file; a new file gets `fresh`. Raises ValueError when the file is not a key."""
        return cls(read_or_make_key(path, fresh))

    @property
    def public_key(self) -> str:
        return self._public.hex()

    def sign(self, text: bytes) -> str:
        return self._key.sign(text).hex()

    def is_signed(self, signature: str, text: bytes) -> bool:
        """Whether this key made the signature (hex) of exactly this text."""
        try:
            return is_signed(self._public, bytes.fromhex(signature), text)
        except ValueError:
            return False
