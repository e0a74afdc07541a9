"""Files of a run directory: written once and synced, locks, and what tells one boot and one process from another."""

from __future__ import annotations

import errno
import fcntl
import os
import zlib

from runner_agent.shim.codec import BadMessage, JsonObject, compact_json
from runner_agent.shim.codec import read_json as read_text
from runner_agent.shim.records import dataclass

RESERVE = "exit.tmp"
# A result of 256 KiB may be three times as long in a record: its letters are escaped.
RESERVE_BYTES = 1 << 20
_CHECKSUM = "crc32"
_READ_BYTES = 16 << 10
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_once(directory: str, name: str, data: bytes, *, sync: bool = True) -> None:
    """Put `data` under `name`, whole or not at all: temporary file, fsync, rename, fsync of the directory.

    With `sync=False` it is only whole against a crash of processes, not of the host. Raises OSError.
    """
    unfinished = f"{directory}/{temporary(name)}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(unfinished, f"{directory}/{name}")
    if sync:
        sync_directory(directory)


def temporary(name: str) -> str:
    """The name of a file while it is being written."""
    return name + ".tmp"


def set_out(directory: str, name: str) -> int:
    """Make the file that is to hold `name`, empty and under its temporary name; its descriptor, for `put_in`.

    Then sync the directory. Raises OSError.
    """
    path = f"{directory}/{temporary(name)}"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def put_in(descriptor: int, directory: str, name: str, data: bytes) -> None:
    """Put `data` under `name`, with one sync: the temporary name has been synced ahead.

    While the host lives, `name` is there whole or not at all. A power cut may take the renaming back: then the whole
    data stands under the temporary name. Less than that stands there only if this had not returned yet. Raises OSError.
    """
    try:
        write_all(descriptor, data)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(f"{directory}/{temporary(name)}", f"{directory}/{name}")


def reserve(directory: str) -> None:
    """Set blocks aside for the exit record, so that a full disk cannot lose it. Raises OSError when there are none."""
    descriptor = os.open(f"{directory}/{RESERVE}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
    finally:
        os.close(descriptor)


def write_exit(directory: str, data: bytes) -> None:
    """Store the exit record in the reserved blocks, then rename it into place. Raises OSError."""
    path = f"{directory}/{RESERVE}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(path, f"{directory}/exit")
    sync_directory(directory)


def write_all(descriptor: int, data: bytes) -> None:
    """One write may take less than all, as on a disk that has just filled up. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_file(path: str) -> None:
    """Make what was written to a file, by whomever, survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: str) -> None:
    """Make renames and new names in `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(directory: str, name: str, limit_bytes: int = 4 << 20) -> JsonObject | None:
    """The JSON object in a file; None if there is no such file. Raises BadMessage if it is not one, OSError.

    A checksum is checked where there is one: an earlier version wrote none.
    """
    try:
        with open(f"{directory}/{name}", "rb") as file:
            data = file.read(limit_bytes + 1)
    except FileNotFoundError:
        return None
    if len(data) > limit_bytes:
        raise BadMessage(f"{name} is larger than {limit_bytes} bytes")
    try:
        value = read_text(data.decode())
    except (ValueError, RecursionError):
        raise BadMessage(f"{name} is not JSON") from None
    if not isinstance(value, dict):
        raise BadMessage(f"{name} is not a JSON object")
    told = value.pop(_CHECKSUM, None)
    if told is not None and told != zlib.crc32(_plain_json(value)):
        raise BadMessage(f"{name} is damaged: its checksum does not fit")
    return value


def encode_json(value: JsonObject) -> bytes:
    """The bytes of a JSON file, with a checksum: a flipped bit must not pass for another exit code."""
    return _plain_json({**value, _CHECKSUM: zlib.crc32(_plain_json(value))})


def _plain_json(value: JsonObject) -> bytes:
    return compact_json(value).encode("ascii")


def try_lock(path: str, *, create: bool = True) -> int | None:
    """Take an exclusive lock on `path`: its descriptor, or None if another process holds it.

    The lock is held as long as any process has that descriptor open: children must close it. Raises OSError.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def working_directory_is_gone() -> bool:
    """Whether somebody has removed the directory in which this process works."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def boot_id() -> str:
    """Names this boot of this host."""
    return read_kernel("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """What /proc/<pid>/stat says. `start_time` is in clock ticks since boot, `state` a letter (Z: zombie)."""

    parent: int
    group: int
    start_time: int
    state: str
    threads: int = 1

    @property
    def is_dead(self) -> bool:
        """A zombie without threads: one whose first thread has ended looks like a zombie, and lives."""
        return self.state in "ZX" and self.threads <= 1


def read_kernel(path: str) -> bytes:
    """A file of /proc or of a cgroup, whole: one read may end before it does. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, _READ_BYTES)
        while more := os.read(descriptor, _READ_BYTES):
            data += more
    finally:
        os.close(descriptor)
    return data


def write_kernel(path: str, text: str) -> None:
    """Write to a file of /proc or of a cgroup. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def process_stat(pid: int) -> ProcessStat | None:
    """The process's stat; None if there is no such process."""
    try:
        data = read_kernel(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may hold anything, parentheses and newlines too.
    fields = data[data.rindex(b")") + 2 :].split()
    return ProcessStat(
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        group=int(fields[2]),
        start_time=int(fields[19]),
        threads=int(fields[17]),
    )


def start_time(pid: int) -> int | None:
    """When `pid` was started (clock ticks since boot); with the boot id it tells a process from a later namesake."""
    stat = process_stat(pid)
    return None if stat is None else stat.start_time


def disk_is_full(error: OSError) -> bool:
    """Whether the error says that there is no room left."""
    return error.errno in _DISK_FULL
