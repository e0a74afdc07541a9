"""The bytes of artifacts: `<root>/<first 8 characters of the run's id>/<run id>/<artifact id>`, one file each.

What is there of a file that is not whole yet is where its upload goes on. Every call blocks on the disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from pathlib import Path

from control_plane.domain.artifact import Artifact
from control_plane.domain.ids import RunId

READ_BYTES = 1 << 20
_SAFE = re.compile(r"[0-9A-Za-z_-]{1,64}")


class ArtifactFiles:
    """All stored files. `reserve_bytes`: with less free disk than this nothing is taken in any more."""

    def __init__(self, root: Path, *, reserve_bytes: int = 0) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self, artifact: Artifact) -> int:
        """Make room for it; how many of its bytes are there already. Raises OSError."""
        path = self._path(artifact)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, artifact: Artifact, offset: int, data: bytes) -> int:
        """Write behind what is there; where it ends now. Raises OSError, ENOSPC also for the last reserve."""
        self.check_room()
        # It makes no directory: those of a deleted run must not come back.
        descriptor = os.open(self._path(artifact), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], offset + written)
        finally:
            os.close(descriptor)
        return offset + len(data)

    def check_room(self) -> None:
        """Raises OSError ENOSPC."""
        room = os.statvfs(self._root)
        if room.f_bavail * room.f_frsize < self._reserve_bytes:
            raise OSError(errno.ENOSPC, "less disk is free than is kept in reserve")

    def seal(self, artifact: Artifact) -> bool:
        """Make the whole file durable and compare it with what was announced; False: its bytes are others."""
        path = self._path(artifact)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fsync(descriptor)
            found = hashlib.sha256()
            while data := os.read(descriptor, READ_BYTES):
                found.update(data)
            size_bytes = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        for directory in (path.parent, path.parent.parent, self._root):
            _sync(directory)
        return found.hexdigest() == artifact.sha256 and size_bytes == artifact.size_bytes

    def begin_anew(self, artifact: Artifact) -> None:
        """What is there is not what was announced."""
        self._path(artifact).unlink(missing_ok=True)

    def read(self, artifact: Artifact, offset: int, limit_bytes: int) -> bytes:
        """A piece of a whole file. Raises OSError."""
        descriptor = os.open(self._path(artifact), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.pread(descriptor, limit_bytes, offset)
        finally:
            os.close(descriptor)

    def remove(self, artifact: Artifact) -> None:
        """One that is not there is fine. Raises OSError."""
        path = self._path(artifact)
        path.unlink(missing_ok=True)
        for directory in (path.parent, path.parent.parent):
            try:
                directory.rmdir()
            except (FileNotFoundError, OSError):
                return  # others are still in it

    def remove_run(self, run_id: RunId) -> None:
        """Everything of a run. Raises OSError."""
        directory = self._directory(run_id)
        if directory.exists():
            shutil.rmtree(directory)

    def _directory(self, run_id: RunId) -> Path:
        if _SAFE.fullmatch(run_id) is None:
            raise ValueError(f"{run_id!r} is no run id")
        return self._root / run_id[:8] / run_id

    def _path(self, artifact: Artifact) -> Path:
        if _SAFE.fullmatch(artifact.id) is None:
            raise ValueError(f"{artifact.id!r} is no artifact id")
        return self._directory(artifact.run_id) / artifact.id


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
