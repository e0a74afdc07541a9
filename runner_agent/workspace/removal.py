"""Remove a tree that a run has made: never through a symbolic link, never across a mount, however deep or locked."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque

MAX_DEPTH = 64
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotRemoved(OSError):
    """Something is left; the text names the first entry and why."""


class _Removal:
    """One removal below `root`: what is too deep is moved up to the root first, so that depth costs no descriptors."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._mount = mount_id(root)
        self._moved = 0
        self.todo: deque[str] = deque()
        self.failures: list[str] = []

    def remove(self, parent: int, name: str, depth: int) -> None:
        try:
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(info.st_mode):
                os.unlink(name, dir_fd=parent)
                return
            if depth > MAX_DEPTH:
                self._move_up(parent, name)
                return
            self._empty(parent, name, depth)
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            self.failures.append(f"{name}: {error.strerror}")

    def _empty(self, parent: int, name: str, depth: int) -> None:
        try:
            directory = os.open(name, _OPEN, dir_fd=parent)
        except PermissionError:
            _unlock(parent, name)
            directory = os.open(name, _OPEN, dir_fd=parent)
        try:
            if mount_id(directory) != self._mount:
                raise OSError(errno.EXDEV, "something is mounted there")
            if os.fstat(directory).st_mode & stat.S_IRWXU != stat.S_IRWXU:
                with contextlib.suppress(PermissionError):
                    os.fchmod(directory, stat.S_IRWXU)
            for entry in os.listdir(directory):
                self.remove(directory, entry, depth + 1)
        finally:
            os.close(directory)

    def _move_up(self, parent: int, name: str) -> None:
        self._moved += 1
        higher = f".deep-{self._moved}"
        os.rename(name, higher, src_dir_fd=parent, dst_dir_fd=self._root)
        self.todo.append(higher)


def mount_id(descriptor: int) -> str:
    """Names the mount that an open directory is on; a bind mount of the same file system differs."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                return line.split()[1]
    raise OSError(errno.ENOTSUP, "the kernel does not tell mount ids")


def remove_tree(path: str) -> None:
    """Remove the directory `path` and all below it; a missing one is fine. Raises NotRemoved."""
    parent_path, name = os.path.split(path)
    try:
        parent = os.open(parent_path, _OPEN & ~os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        _remove_in(parent, name)
    finally:
        os.close(parent)


def _remove_in(parent: int, name: str) -> None:
    try:
        root = os.open(name, _OPEN, dir_fd=parent)
    except FileNotFoundError:
        return
    except PermissionError:
        _unlock(parent, name)
        root = os.open(name, _OPEN, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise NotRemoved(error.errno, f"{name}: {error.strerror}") from None
        os.unlink(name, dir_fd=parent)  # a file, or a link that somebody put in its place
        return
    try:
        if mount_id(root) != mount_id(parent):
            raise NotRemoved(errno.EXDEV, f"{name}: something is mounted there")
        with contextlib.suppress(PermissionError):
            os.fchmod(root, stat.S_IRWXU)
        removal = _Removal(root)
        removal.todo.extend(os.listdir(root))
        while removal.todo:
            removal.remove(root, removal.todo.popleft(), 1)
        if removal.failures:
            raise NotRemoved(errno.ENOTEMPTY, f"{len(removal.failures)} entries are left, first {removal.failures[0]}")
    finally:
        os.close(root)
    os.rmdir(name, dir_fd=parent)


def _unlock(parent: int, name: str) -> None:
    """Let the owner in again, where the run has locked itself out. Never follows a link: it is a directory of ours."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", stat.S_IRWXU)
    finally:
        os.close(descriptor)
