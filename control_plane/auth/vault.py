"""Secret values at rest: AES-256-GCM under a key in a file of its own, which is never in the database.

A sealed value is bound to its project, name and version: moved to another row it does not open.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control_plane.domain.ids import ProjectId

KEY_BYTES = 32
NONCE_BYTES = 12
# First byte of every sealed value; another cipher or key gets another number.
FORMAT = b"\x01"


class VaultKeyError(ValueError):
    """The key file cannot be used; the text says what to do."""


class FileVault:
    """Implements `domain.ports.Vault`. Opening and sealing are pure computation, safe in any thread."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def at(cls, path: Path) -> FileVault:
        """The vault whose key is in the file at `path`, which is made when it is not there.

        Raises VaultKeyError when others can read the file, or it holds no key; OSError.
        """
        try:
            return cls(_read(path))
        except FileNotFoundError:
            _make(path)
            return cls(_read(path))

    def seal(self, project_id: ProjectId, name: str, version: int, value: bytes) -> bytes:
        """The value, encrypted and bound to its place. Two calls never give the same bytes."""
        nonce = os.urandom(NONCE_BYTES)
        return FORMAT + nonce + self._cipher.encrypt(nonce, value, _place(project_id, name, version))

    def open(self, project_id: ProjectId, name: str, version: int, sealed: bytes) -> bytes:
        """The value. Raises ValueError when the bytes were changed, moved, or sealed under another key."""
        if sealed[:1] != FORMAT or len(sealed) < 1 + NONCE_BYTES:
            raise ValueError(f"the stored value of secret {name!r} has an unknown format")
        nonce, box = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, box, _place(project_id, name, version))
        except InvalidTag:
            raise ValueError(f"the stored value of secret {name!r} does not open under this key") from None


def _place(project_id: str, name: str, version: int) -> bytes:
    """Project, name and version, so that no two places give the same bytes."""
    parts = (project_id.encode(), name.encode(), str(version).encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = stat.S_IMODE(facts.st_mode)
            raise VaultKeyError(f"{path} holds the key of all secrets and has mode {mode:04o}: chmod 600 it")
        if facts.st_uid != os.geteuid():
            raise VaultKeyError(f"{path} holds the key of all secrets and belongs to user id {facts.st_uid}: chown it")
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise VaultKeyError(f"{path} does not hold a key of {KEY_BYTES} bytes; put it back from a backup")
    return key


def _make(path: Path) -> None:
    """A fresh key, durable and whole before it has its name; a key that is there already stays."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(AESGCM.generate_key(bit_length=8 * KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
