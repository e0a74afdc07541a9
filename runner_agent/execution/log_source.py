"""The log of one attempt as chunks for the wire, from whatever offset the server wants.

What is in memory is read at once; what must be fetched from the disk is read ahead in a thread.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from dataclasses import replace
from pathlib import Path

from runner_agent.domain.ids import AttemptKey
from runner_agent.domain.log import LogChunk, LogRecord
from runner_agent.domain.log_flow import LogTurn
from runner_agent.execution import log_reader
from runner_agent.execution.log_reader import LogReader, retire
from runner_agent.execution.translate import log_record

READ_AHEAD_BYTES = 512 << 10
RETIRE_BYTES = 4 << 20
MAX_CHUNK_RECORDS = 1_024
_KEPT_BYTES = 4 << 20


class LogSource:
    """Reads what a turn allows. One caller at a time. Raises OSError, BadMessage from the spool."""

    def __init__(self, key: AttemptKey, directory: Path) -> None:
        _keep_freed_memory()
        self._key = key
        self._directory = directory
        self._reader = LogReader(directory)
        self._ahead: deque[LogRecord] = deque()
        self._offset = 0
        self._retired = 0
        self._closed = False
        self._lock = asyncio.Lock()
        self.final_offset: int | None = None

    async def read(self, turn: LogTurn) -> LogChunk | None:
        """The chunk that begins at the turn's offset; None if nothing can be read there yet."""
        async with self._lock:
            if turn.offset != self._offset:
                self._ahead.clear()
                self._reader.seek(turn.offset)
                self._offset = turn.offset
            if not self._ahead:
                batch = await self._read(turn.limit_bytes)
                if self._closed:
                    self._reader.close()
                    return None
                self._ahead.extend(log_record(item) for item in batch)
            records = self._take(turn.limit_bytes)
        if not records:
            return None
        chunk = LogChunk(key=self._key, offset=turn.offset, records=records)
        self._offset = chunk.end_offset
        return chunk

    async def _read(self, limit_bytes: int) -> tuple[log_reader.LogRecord | log_reader.LogGap, ...]:
        """What was written only now is still in memory: a thread and the way back would cost more than the reading."""
        try:
            return self._reader.read(max_bytes=limit_bytes, final_offset=self.final_offset, wait=False)
        except BlockingIOError:
            return await asyncio.to_thread(
                self._reader.read, max_bytes=READ_AHEAD_BYTES, final_offset=self.final_offset
            )

    def _take(self, limit_bytes: int) -> tuple[LogRecord, ...]:
        taken: list[LogRecord] = []
        left = limit_bytes
        while self._ahead and left > 0 and len(taken) < MAX_CHUNK_RECORDS:
            record = self._ahead.popleft()
            if len(record.data) > left:
                self._ahead.appendleft(replace(record, data=record.data[left:]))
                record = replace(record, data=record.data[:left])
            taken.append(record)
            left -= len(record.data)
        return tuple(taken)

    def may_retire(self, committed_offset: int) -> bool:
        """Whether so much more is durable at the server that room in the spool should be made."""
        return committed_offset - self._retired >= RETIRE_BYTES

    async def retire(self, committed_offset: int) -> None:
        """Delete spool files whose bytes are all durable at the server. Raises OSError, BadMessage."""
        self._retired = committed_offset
        await asyncio.to_thread(retire, self._directory, committed_offset)

    def close(self) -> None:
        """Close what is open; a read under way closes it behind itself."""
        self._closed = True
        self._ahead.clear()
        if not self._lock.locked():
            self._reader.close()


@functools.cache
def _keep_freed_memory() -> None:
    """Let chunks come and go in the same memory.

    The C library maps each large piece anew, and gives back what is free at the end of its heap, until a larger piece
    was freed once; from then on it keeps twice as much. An agent without logs has no need of it.
    """
    bytes(_KEPT_BYTES)
