"""Finds the files that a spec names in a workspace, and reads them: never through a symbolic link, never outside."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner_agent.domain.assignment import ArtifactPattern

READ_BYTES = 1 << 20
# A tree with more entries is not searched to its end; the rest is said to be left out.
MOST_ENTRIES = 200_000
MOST_DEPTH = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """Relative names of regular files, sorted, and what there is to say about what was not found or is left out."""

    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """A file as it is now."""

    size_bytes: int
    sha256: str
    executable: bool


@dataclass(slots=True)
class _Search:
    """One walk of one pattern."""

    names: set[str] = field(default_factory=set)
    passed_over: set[str] = field(default_factory=set)
    left: int = MOST_ENTRIES

    def look(self, directory: int, prefix: str, parts: Sequence[str]) -> None:
        """Everything below `directory` that the rest of a pattern names."""
        if prefix.count("/") > MOST_DEPTH:
            self.passed_over.add(f"{prefix} is too deep")
            return
        part, rest = parts[0], parts[1:]
        if part == "**" and rest:
            self.look(directory, prefix, rest)
            for name in self._entries(directory, prefix, "*", folders=True):
                self._descend(directory, prefix, name, parts)
            return
        if part == "**":
            part = "*"  # whole directories, with all below them
        for name in self._entries(directory, prefix, part, folders=bool(rest)):
            if rest:
                self._descend(directory, prefix, name, rest)
            else:
                self._take(directory, prefix, name)

    def _entries(self, directory: int, prefix: str, part: str, *, folders: bool) -> Iterator[str]:
        for name in sorted(os.listdir(directory)):
            self.left -= 1
            if self.left < 0:
                self.passed_over.add(f"more than {MOST_ENTRIES} entries: the rest is left out")
                return
            if not fnmatch.fnmatchcase(name, part):
                continue
            try:
                mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISLNK(mode):
                self.passed_over.add(f"{prefix}{name} is a symbolic link")
            elif stat.S_ISDIR(mode) or not folders:
                yield name

    def _descend(self, directory: int, prefix: str, name: str, parts: Sequence[str]) -> None:
        try:
            below = os.open(name, _DIRECTORY, dir_fd=directory)
        except OSError as error:
            self.passed_over.add(f"{prefix}{name}: {error.strerror}")
            return
        try:
            self.look(below, f"{prefix}{name}/", parts)
        finally:
            os.close(below)

    def _take(self, directory: int, prefix: str, name: str) -> None:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            self.names.add(f"{prefix}{name}")
        elif stat.S_ISDIR(mode):
            self._descend(directory, prefix, name, ("**",))
        else:
            self.passed_over.add(f"{prefix}{name} is no regular file")


def harvest(work: Path, patterns: Sequence[ArtifactPattern]) -> Harvest:
    """All files that the patterns name. Raises OSError when the workspace itself cannot be read."""
    names: set[str] = set()
    notes: list[str] = []
    root = os.open(work, _DIRECTORY)
    try:
        for pattern in patterns:
            search = _Search()
            search.look(root, "", pattern.path.removesuffix("/").split("/"))
            if not search.names:
                notes.append(f"nothing matches {pattern.path!r}")
            notes += [_shown(what) for what in sorted(search.passed_over)]
            names |= search.names
    finally:
        os.close(root)
    return Harvest(names=tuple(sorted(names)), notes=tuple(dict.fromkeys(notes)))


def missing(work: Path, required: Sequence[str]) -> tuple[str, ...]:
    """Those patterns that name no file. A workspace that cannot be read has none."""
    try:
        return tuple(path for path in required if not harvest(work, (ArtifactPattern(path=path),)).names)
    except OSError:
        return tuple(required)


def open_file(work: Path, name: str) -> int:
    """A descriptor of a regular file in the workspace; no part of its path may be a link. Raises OSError."""
    *folders, last = name.split("/")
    directory = os.open(work, _DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, _DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        descriptor = os.open(last, _FILE, dir_fd=directory)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{name} is no regular file")
    return descriptor


def facts(descriptor: int) -> FileFacts:
    """Read it once, whole. Raises OSError."""
    found, size_bytes = hashlib.sha256(), 0
    while data := os.pread(descriptor, READ_BYTES, size_bytes):
        found.update(data)
        size_bytes += len(data)
    executable = bool(os.fstat(descriptor).st_mode & stat.S_IXUSR)
    return FileFacts(size_bytes=size_bytes, sha256=found.hexdigest(), executable=executable)


def _shown(text: str) -> str:
    """On one line, whatever somebody has named a file."""
    return text if text.isprintable() else ascii(text)
