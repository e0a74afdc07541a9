"""Files that hold a key or a token: 0600, whole or not there at all."""

from __future__ import annotations

import os
from pathlib import Path

KEY_BYTES = 32


def read_or_make_key(path: Path, fresh: bytes) -> bytes:
    """The key in the file; a new file gets `fresh`. Raises ValueError when the file is not a key."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        write_private(path, fresh)
        return fresh
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} does not hold a key of {KEY_BYTES} bytes")
    return key


def write_private(path: Path, data: bytes) -> None:
    """Replace the file in one step, readable by its owner only, and on disk when this returns."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
