"""Downloads one stored file: into a partial file beside its place, on from what is there, verified, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from control_plane.cli import contract
from control_plane.cli.client import Client
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.plain import plain
from control_plane.cli.rpc_errors import status_name, translate

PARTIAL = ".part"
READ_BYTES = 1 << 20
DELAYS_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_safe(name: str) -> bool:
    """A plain relative path: nothing in it can lead out of a directory."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and all(part not in ("", ".", "..") for part in parts)


class Download:
    """Puts files below one directory. No symbolic link below it is followed."""

    def __init__(self, client: Client, project: str, target: Path) -> None:
        self._client, self._project, self._target = client, project, target

    def fetch(self, found: contract.artifact_pb2.Artifact) -> bool:
        """False: the same bytes are there already. Raises CliError."""
        if not is_safe(found.name):
            raise CliError(f"{plain(found.name)} is no name that can be written here")
        try:
            directory, last = self._open_directory(found.name)
            try:
                return self._fetch(found, directory, last)
            finally:
                os.close(directory)
        except OSError as error:
            raise CliError(f"cannot write {plain(found.name)} to {self._target}: {error.strerror}") from error

    def _open_directory(self, name: str) -> tuple[int, str]:
        self._target.mkdir(parents=True, exist_ok=True)
        *folders, last = name.split("/")
        directory = os.open(self._target, _DIRECTORY & ~os.O_NOFOLLOW)
        for folder in folders:
            above = directory
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, dir_fd=above)
            try:
                directory = os.open(folder, _DIRECTORY, dir_fd=above)
            finally:
                os.close(above)
        return directory, last

    def _fetch(self, found: contract.artifact_pb2.Artifact, directory: int, last: str) -> bool:
        known = _digest(directory, last)
        if known is not None:
            if known == found.sha256:
                return False
            raise CliError(
                f"{plain(found.name)} is in {self._target} already, with other bytes; it was left alone",
                exit_code=ExitCode.CONFLICT,
            )
        partial = last + PARTIAL
        for from_there in (True, False):
            if not from_there:
                os.unlink(partial, dir_fd=directory)
            self._append(found, directory, partial)
            if _digest(directory, partial) == found.sha256:
                break
        else:
            raise CliError(f"{plain(found.name)} came with other bytes than its hash says")
        if found.executable:
            os.chmod(partial, 0o755, dir_fd=directory)
        os.rename(partial, last, src_dir_fd=directory, dst_dir_fd=directory)
        return True

    def _append(self, found: contract.artifact_pb2.Artifact, directory: int, partial: str) -> None:
        """Until all bytes are there, over connections that are cut. Raises CliError."""
        import grpc

        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(partial, flags, 0o644, dir_fd=directory), "ab") as file:
            if file.tell() > found.size_bytes:
                file.truncate(0)
            delays = iter(DELAYS_S)
            while True:
                file.flush()
                before = os.fstat(file.fileno()).st_size
                try:
                    self._stream(found, before, file.write)
                except grpc.RpcError as error:
                    file.flush()
                    if os.fstat(file.fileno()).st_size > before:
                        delays = iter(DELAYS_S)
                    delay = next(delays, None)
                    if delay is None or status_name(error) != "UNAVAILABLE":
                        raise translate(error, self._client.target.url) from error
                    self._client.clock.sleep(delay)
                else:
                    return

    def _stream(self, found: contract.artifact_pb2.Artifact, offset: int, write: object) -> None:
        request = contract.artifact_pb2.DownloadArtifactRequest(
            run=found.run_id, project=self._project, artifact=found.id, offset=offset
        )
        for item in self._client.runs.DownloadArtifact(request, metadata=self._client.metadata):
            if item.data:
                write(item.data)  # type: ignore[operator]


def _digest(directory: int, name: str) -> str | None:
    """SHA-256 of a regular file; None if there is nothing. Raises OSError, also for anything else in its place."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileExistsError(17, "something else is in its place")
        return hashlib.file_digest(file, "sha256").hexdigest()
