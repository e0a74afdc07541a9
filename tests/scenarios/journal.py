"""The real fork server and its shims, keeping a journal of what they ask of the disk, in the order of asking.

Each line is `write|sync|rename NAME`: what would be lost when the power fails behind any line can be read off it.
Standard library only, like what it wraps; it is started in the product's place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from runner_agent.shim import fork_server

JOURNAL = "journal"


def install(path: str) -> None:
    """Journal to `path`, which stays open for nobody."""
    fsync, fdatasync, write, writev, rename = os.fsync, os.fdatasync, os.write, os.writev, os.rename

    def note(word: str, name: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        write(descriptor, f"{word} {os.path.basename(name)}\n".encode())
        os.close(descriptor)

    def name_of(descriptor: int) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}")

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        note("sync", name_of(descriptor))

    def datasynced(descriptor: int) -> None:
        fdatasync(descriptor)
        note("sync", name_of(descriptor))

    def wrote(descriptor: int, data: Any) -> int:
        written = write(descriptor, data)
        if (name := name_of(descriptor)).startswith("/"):
            note("write", name)
        return written

    def wrote_vector(descriptor: int, parts: Sequence[Any]) -> int:
        written = writev(descriptor, parts)
        note("write", name_of(descriptor))
        return written

    def renamed(source: Any, target: Any, **options: Any) -> None:
        note("rename", os.fspath(source))
        rename(source, target, **options)

    os.fsync, os.fdatasync, os.write, os.writev = synced, datasynced, wrote, wrote_vector
    os.rename = renamed


def main() -> None:
    """The product's own main, with a journal in its state directory (its first argument)."""
    import sys

    install(os.path.join(os.path.abspath(sys.argv[1]), JOURNAL))
    fork_server.main()
