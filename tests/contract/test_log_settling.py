"""Large pieces are digested while the disk is at work: what is told of them is the same, also when the disk fails."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from control_plane.logs.digest import LogDigest
from control_plane.logs.files import SETTLED_BESIDE_BYTES, FileLogStore
from tests.contract.log_things import KEY, content, line

PIECE = random.Random(3).randbytes(SETTLED_BESIDE_BYTES // 4)


def append(store: FileLogStore, offset: int, pieces: int) -> bytes:
    store.append(KEY, offset, [line(PIECE)] * pieces)
    return PIECE * pieces


@pytest.mark.parametrize("pieces", [1, 3, 4, 9])
def test_the_digest_covers_what_was_synced(tmp_path: Path, pieces: int) -> None:
    store = FileLogStore(tmp_path, segment_bytes=5 * len(PIECE))
    expected = b""
    for _ in range(3):
        expected += append(store, len(expected), pieces)
        store.sync([KEY])
    digest = LogDigest()
    digest.data(expected)
    rows = store.segments(KEY)
    assert (content(store), store.digest(KEY)) == (expected, digest.hex())
    assert sum(row.newlines for row in rows) == expected.count(b"\n")
    store.close()
    again = FileLogStore(tmp_path, segment_bytes=5 * len(PIECE))
    assert (content(again), again.digest(KEY), again.segments(KEY)) == (expected, digest.hex(), rows)
    again.close()


def test_large_pieces_are_synced_beside_the_digesting_and_small_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []
    monkeypatch.setattr(
        os, "fdatasync", lambda _: threads.append(threading.current_thread() is threading.main_thread())
    )
    store = FileLogStore(tmp_path)
    expected = append(store, 0, 1)
    store.sync([KEY])
    expected += append(store, len(expected), 4)
    store.sync([KEY])
    assert threads == [True, False]
    store.close()


def test_what_a_failing_disk_did_not_take_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileLogStore(tmp_path)
    expected = append(store, 0, 4)
    store.sync([KEY])

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "i/o error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fails)
        append(store, len(expected), 8)
        with pytest.raises(OSError, match="i/o error"):
            store.sync([KEY])
        store.rollback([KEY])
    assert (store.end(KEY), content(store)) == (len(expected), expected)
    expected += append(store, len(expected), 8)
    store.sync([KEY])
    digest = LogDigest()
    digest.data(expected)
    assert (content(store), store.digest(KEY)) == (expected, digest.hex())
    store.close()
