"""What goes on beside a sync may fail: nothing is taken back under the sync's hands."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.log import LogKind, LogRecord
from control_plane.logs.files import SETTLED_BESIDE_BYTES, FileLogStore
from control_plane.logs.segment_log import SegmentLog

KEY = AttemptKey(run_id=RunId("0190b3a0-0000-7000-8000-000000000001"), lease_epoch=3)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_sync_has_ended_when_what_went_on_beside_it_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, failed, ended = threading.Event(), threading.Event(), threading.Event()
    sync_files = SegmentLog.sync_files

    def slow(log: SegmentLog) -> Path | None:
        began.set()
        failed.wait(10)
        found = sync_files(log)
        ended.set()
        return found

    def broken(log: SegmentLog) -> None:
        began.wait(10)
        failed.set()
        raise LookupError("a mistake")

    store = FileLogStore(tmp_path)
    store.append(KEY, 0, [LogRecord(kind=LogKind.STDOUT, at=AT, data=b"x" * SETTLED_BESIDE_BYTES)])
    monkeypatch.setattr(SegmentLog, "sync_files", slow)
    monkeypatch.setattr(SegmentLog, "settle", broken)
    with pytest.raises(LookupError):
        store.sync([KEY])
    assert ended.is_set()
    monkeypatch.undo()
    store.rollback([KEY])
    assert store.end(KEY) == 0
    store.close()
