"""Who this runner is: its own Ed25519 key and the short-lived credential, in one 0600 file of the state directory."""

from __future__ import annotations

import base64
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE_NAME = "credential.json"
_VERSION = 1


class BadCredentialFile(ValueError):
    """The file cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerIdentity:
    """The key is the identity; `runner_id` is empty until the server has enrolled it. Expiry is wall-clock seconds."""

    key: Ed25519PrivateKey = field(repr=False)
    name: str
    runner_id: str = ""
    credential: str = field(default="", repr=False)
    expires_at_s: float = 0.0

    @property
    def enrolled(self) -> bool:
        """Whether the server knows it."""
        return bool(self.runner_id)

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, text: str) -> bytes:
        """An Ed25519 signature of the UTF-8 text."""
        return self.key.sign(text.encode())


def new_identity(name: str) -> RunnerIdentity:
    """A new key, made here; it never leaves this host."""
    return RunnerIdentity(key=Ed25519PrivateKey.generate(), name=name)


def load(path: Path) -> RunnerIdentity | None:
    """The identity in the file; None if there is no file. Raises BadCredentialFile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadCredentialFile(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise BadCredentialFile(f"{path} may be read by others (mode {mode:04o}); run: chmod 600 {path}")
        try:
            kept = json.loads(file.read())
            if kept["version"] != _VERSION:
                raise BadCredentialFile(f"{path} was written by another version of the agent")
            return RunnerIdentity(
                key=Ed25519PrivateKey.from_private_bytes(base64.b64decode(kept["private_key"])),
                name=str(kept["name"]),
                runner_id=str(kept["runner_id"]),
                credential=str(kept["credential"]),
                expires_at_s=float(kept["expires_at_s"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, BadCredentialFile):
                raise
            raise BadCredentialFile(f"{path} is damaged; remove it and enrol with a fresh join token") from None


def save(path: Path, identity: RunnerIdentity) -> None:
    """Write it whole or not at all, readable by the owner alone."""
    kept = {
        "version": _VERSION,
        "name": identity.name,
        "runner_id": identity.runner_id,
        "private_key": base64.b64encode(identity.key.private_bytes_raw()).decode(),
        "credential": identity.credential,
        "expires_at_s": identity.expires_at_s,
    }
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(kept))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
