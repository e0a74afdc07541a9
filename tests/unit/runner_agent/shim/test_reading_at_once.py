"""Reading a spool without waiting: what is in memory comes at once, anything else only if it is waited for."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.log_flow import LogTurn
from runner_agent.execution.log_reader import LogGap, LogReader, LogRecord
from runner_agent.execution.log_source import LogSource
from runner_agent.shim.spool import Spool


def append(spool: Spool, data: bytes) -> bytes:
    spool.append(1, 0, data, wall_ns=0, now_ns=0)
    return data


def spool_in(directory: Path, file_bytes: int = 4 << 20) -> Spool:
    return Spool(str(directory), log_limit_bytes=1 << 30, quota_bytes=30 * file_bytes)  # room for all


def joined(found: tuple[LogRecord | LogGap, ...]) -> bytes:
    return b"".join(item.data for item in found if isinstance(item, LogRecord))


def test_only_an_open_file_is_read_at_once(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    whole = append(spool, b"first")
    reader = LogReader(tmp_path)
    with pytest.raises(BlockingIOError):
        reader.read(wait=False)
    assert joined(reader.read()) == whole
    append(spool, b"second")
    assert joined(reader.read(wait=False)) == b"second"
    with pytest.raises(BlockingIOError):
        reader.read(wait=False)
    assert reader.read() == ()
    reader.close()


WORDS = [OSError(word, "not now") for word in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)]


@pytest.mark.parametrize("word", [*WORDS, NotImplementedError("preadv")], ids=repr)
def test_what_must_come_from_the_disk_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: Exception
) -> None:
    spool = spool_in(tmp_path)
    append(spool, b"first")
    reader = LogReader(tmp_path)
    assert joined(reader.read()) == b"first"
    append(spool, b"second")
    preadv = os.preadv

    def cold(descriptor: int, buffers: tuple[memoryview], offset: int, flags: int) -> int:
        if flags & os.RWF_NOWAIT:
            raise word
        return preadv(descriptor, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", cold)
    with pytest.raises(BlockingIOError):
        reader.read(wait=False)
    assert joined(reader.read()) == b"second"
    reader.close()


def test_a_disk_that_fails_is_told_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_in(tmp_path)
    append(spool, b"first")
    reader = LogReader(tmp_path)
    assert joined(reader.read()) == b"first"

    def fails(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "preadv", fails)
    for wait in (True, False):
        with pytest.raises(OSError, match="too many"):
            reader.read(wait=wait)
    reader.close()


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(st.integers(1, 150_000), min_size=1, max_size=12), limit=st.integers(1, 300_000))
async def test_a_source_gives_every_byte_once_over_files_and_pieces(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[int], limit: int
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool, key, whole, got = spool_in(directory, 100_000), AttemptKey(run_id="r", lease_epoch=1), b"", b""
    source = LogSource(key, directory)
    for size in pieces:
        whole += append(spool, os.urandom(size))
        while len(got) < len(whole):
            turn = LogTurn(key=key, offset=len(got), limit_bytes=min(limit, len(whole) - len(got)))
            chunk = await source.read(turn)
            assert chunk is not None
            assert 0 < sum(len(record.data) for record in chunk.records) <= turn.limit_bytes
            got += b"".join(record.data for record in chunk.records)
    assert got == whole
    again = await source.read(LogTurn(key=key, offset=len(whole) // 2, limit_bytes=limit))
    assert again is not None
    assert whole[len(whole) // 2 :].startswith(b"".join(record.data for record in again.records))
    source.close()
