"""A long log leaves the page cache behind its end, on disk, and reads the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from control_plane.logs.files import FileLogStore
from tests.contract.log_things import KEY, content, line

SEGMENT = 64 << 10


def test_only_what_is_durable_and_far_behind_leaves_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[tuple[str, str]] = []
    fdatasync, posix_fadvise = os.fdatasync, os.posix_fadvise

    def name(fd: int) -> str:
        return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))[-10:-4]

    def syncing(fd: int) -> None:
        happened.append(("sync", name(fd)))
        fdatasync(fd)

    def advising(fd: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        happened.append(("leave", name(fd)))
        posix_fadvise(fd, offset, length, advice)

    monkeypatch.setattr(os, "fdatasync", syncing)
    monkeypatch.setattr(os, "posix_fadvise", advising)
    before = len(os.listdir("/proc/self/fd"))
    store = FileLogStore(tmp_path, segment_bytes=SEGMENT)
    expected = b""
    for number in range(8):
        data = bytes([number]) * (SEGMENT // 2)
        store.append(KEY, len(expected), [line(data)])
        expected += data
        store.sync([KEY])
    left = [segment for what, segment in happened if what == "leave"]
    assert left == ["000001", "000002"]  # the fourth is being written, the third is what followers read
    for segment in left:
        assert ("sync", segment) in happened[: happened.index(("leave", segment))]
        assert ("sync", segment) not in happened[happened.index(("leave", segment)) :]
    assert content(store) == expected
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_system_that_takes_no_advice_keeps_logs_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: int) -> None:
        raise OSError(errno.EINVAL, "no advice")

    monkeypatch.setattr(os, "posix_fadvise", refuses)
    store = FileLogStore(tmp_path, segment_bytes=SEGMENT)
    expected = b""
    for number in range(8):
        store.append(KEY, len(expected), [line(bytes([number]) * SEGMENT)])
        expected += bytes([number]) * SEGMENT
        store.sync([KEY])
    assert content(store) == expected
    store.close()
