"""SIGKILL of a process that writes logs: every byte that it called durable is there, whole, and the digest goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.domain.log import LogRecord
from control_plane.logs.digest import LogDigest
from control_plane.logs.files import FileLogStore
from control_plane.logs.recovery import recover
from tests.integration.logs.writer_program import AT, KEYS, SEGMENT_BYTES, records

REPOSITORY = Path(__file__).resolve().parents[3]


def killed_after(root: Path, seed: int, acknowledgements: int) -> list[int]:
    """Start the writer, kill it after so many acknowledgements, and return the last one that it got out."""
    command = [sys.executable, "-m", "tests.integration.logs.writer_program", str(root), str(seed)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(acknowledgements)]
        os.kill(program.pid, signal.SIGKILL)
        lines += program.stdout.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    return [int(end) for end in whole[-1].split()]


def prefix(seed: int, end: int) -> tuple[list[LogRecord], str]:
    """The records of a log up to `end`, and their digest."""
    kept: list[LogRecord] = []
    digest, offset = LogDigest(), 0
    for record in records(seed):
        if offset == end:
            return kept, digest.hex()
        kept.append(record)
        offset += record.length
        assert offset <= end, "the log ends inside a record"
        digest.gap(record.gap_bytes)
        if record.data:
            digest.data(record.data)
    raise AssertionError


@pytest.mark.parametrize(("seed", "acknowledgements"), [(1, 1), (2, 7), (3, 60), (4, 200)])
def test_every_acknowledged_byte_survives(tmp_path: Path, seed: int, acknowledgements: int) -> None:
    promised = killed_after(tmp_path, seed, acknowledgements)
    store = FileLogStore(tmp_path, segment_bytes=SEGMENT_BYTES)
    for number, key in enumerate(KEYS):
        end = store.end(key)
        assert end >= promised[number]
        kept, digest = prefix(seed + number, end)
        found, offset, cursor = [], 0, None
        while offset < end:
            read = store.read(key, offset, 1 << 20, cursor)
            assert not read.damaged
            found += read.records
            offset, cursor = read.next_offset, read.cursor
        assert found == kept
        assert store.digest(key) == digest
        assert recover(store._base(key)).read_bytes <= (1 << 20) + (1 << 18)
        store.append(key, end, [LogRecord(kind=kept[0].kind, at=AT, data=b"goes on")])
    store.sync(KEYS)
    assert all(store.read(key, store.end(key) - 7, 100).records[0].data == b"goes on" for key in KEYS)
    store.close()
