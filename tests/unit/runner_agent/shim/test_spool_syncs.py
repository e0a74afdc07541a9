"""What of a spool goes to the disk: everything that is not yet safe elsewhere, once, a second late at most."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runner_agent.execution.log_reader import retire
from runner_agent.shim import spool_format
from runner_agent.shim.spool import MAX_UNSYNCED_FILES, Spool

SECOND = 1_000_000_000
PIECE = 4 << 10


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were synced, in order."""
    names: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: names.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))
    return names


def spool_of(directory: Path, files: int) -> Spool:
    """A spool whose files hold one piece each, with so many of them complete and one begun."""
    spool = Spool(str(directory), log_limit_bytes=1 << 30, quota_bytes=8 * PIECE + 2)
    spool._file_bytes = PIECE
    spool._quota = 1 << 30
    for _ in range(files + 1):
        spool.append(1, 0, b"x" * PIECE, wall_ns=0, now_ns=0)
    assert spool_format.file_numbers(str(directory)) == list(range(files + 1))
    return spool


def test_a_complete_file_is_synced_with_the_rest_of_its_second(tmp_path: Path, synced: list[str]) -> None:
    spool = spool_of(tmp_path, 3)
    assert synced == []
    spool.sync_if_due(SECOND)
    assert synced == ["spool.0", "spool.1", "spool.2", "spool.3"]
    spool.sync()
    assert len(synced) == 4


def test_what_the_server_has_durably_is_not_synced(tmp_path: Path, synced: list[str]) -> None:
    spool = spool_of(tmp_path, 3)
    assert retire(tmp_path, 2 * PIECE) == 2
    spool.finish()
    assert synced == ["spool.2", "spool.3"]


def test_few_files_wait_to_be_synced_however_small_they_are(tmp_path: Path, synced: list[str]) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    spool = spool_of(tmp_path, MAX_UNSYNCED_FILES - 1)
    assert synced == []
    spool.append(1, 0, b"x" * PIECE, wall_ns=0, now_ns=0)
    assert synced == [f"spool.{number}" for number in range(MAX_UNSYNCED_FILES)]
    spool.finish()
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_everything_is_synced_before_the_end_is_told(tmp_path: Path, synced: list[str]) -> None:
    spool = spool_of(tmp_path, 2)
    spool.finish()
    assert synced == ["spool.0", "spool.1", "spool.2"]


def test_a_disk_that_says_nothing_of_a_file_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_of(tmp_path, 2)

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "i/o error")

    monkeypatch.setattr(os, "fstat", fails)
    monkeypatch.setattr(os, "fdatasync", fails)
    spool.sync_if_due(SECOND)
    spool.append(1, 0, b"more", wall_ns=0, now_ns=0)
    monkeypatch.undo()
    assert spool.finish()[0] == 3 * PIECE + 4
