"""Read an attempt's log through the API, once, and hold each stream against the bytes that its program writes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import grpc
from banksman.v1 import log_pb2

from tests.history import truthful
from tests.scenarios.doors import Doors

BLOCK_BYTES = 1 << 20
STREAMS = {log_pb2.LOG_KIND_STDOUT: "out", log_pb2.LOG_KIND_STDERR: "err"}
DESCRIPTORS = {"out": 1, "err": 2}


class BlockDigest:
    """SHA-256 over the SHA-256s of 1 MiB blocks of offset space; a gap is its edges. Written from the description."""

    def __init__(self) -> None:
        self.offset = 0
        self._outer = hashlib.sha256()
        self._block = hashlib.sha256()
        self._began = 0
        self._gap: int | None = None

    def data(self, data: bytes) -> None:
        self._end_gap()
        while data:
            room = BLOCK_BYTES - self.offset % BLOCK_BYTES
            self._block.update(data[:room])
            self.offset += len(data[:room])
            if self.offset % BLOCK_BYTES == 0:
                self._end_block()
            data = data[room:]

    def gap(self, size: int) -> None:
        self._end_block()
        if self._gap is None:
            self._gap = self.offset
        self.offset += size

    def hexdigest(self) -> str:
        """Of all; nothing may follow."""
        self._end_gap()
        self._end_block()
        return self._outer.hexdigest()

    def _end_block(self) -> None:
        if self._gap is None and self.offset > self._began:
            self._outer.update(self._block.digest())
            self._block = hashlib.sha256()
        self._began = self.offset

    def _end_gap(self) -> None:
        if self._gap is not None:
            self._outer.update(self._gap.to_bytes(8, "big") + self.offset.to_bytes(8, "big"))
            self._gap = None
            self._began = self.offset


class Stream:
    """One stream of a step as it is read, against its plan as long as they agree."""

    def __init__(self, plan: dict[str, Any] | None, stream: str) -> None:
        self.bytes = 0
        self.same = 0
        self._sha256 = hashlib.sha256()
        self._plan: Iterator[tuple[int, bytes]] | None = None
        if plan is not None:
            self._plan = truthful.pieces(plan, only=DESCRIPTORS[stream])
        self._ahead = b""

    def take(self, data: bytes) -> None:
        self._sha256.update(data)
        agreed = self.same == self.bytes
        self.bytes += len(data)
        if agreed:
            self.same += len(data) if self._plan is None else self._agreed(data)

    def _agreed(self, data: bytes) -> int:
        """How many leading bytes are as planned."""
        assert self._plan is not None
        parts, size = [self._ahead], len(self._ahead)
        while size < len(data):
            piece = next(self._plan, None)
            if piece is None:
                break
            parts.append(piece[1])
            size += len(piece[1])
        planned = b"".join(parts)
        self._ahead = planned[len(data) :]
        if planned[: len(data)] == data:
            return len(data)
        pairs = zip(planned, data, strict=False)
        return next((at for at, (first, second) in enumerate(pairs) if first != second), min(len(planned), len(data)))

    def sha256(self) -> str:
        return self._sha256.hexdigest()


class LogReader:
    """All of one attempt's log. Without plans the streams are counted and hashed only."""

    def __init__(self, doors: Doors, run: str, epoch: int, plans: Sequence[dict[str, Any]] = ()) -> None:
        self._doors = doors
        self._run = run
        self._epoch = epoch
        self._plans = plans
        self._raw = hashlib.sha256()
        self._blocks = BlockDigest()
        self._streams: dict[tuple[int, str], Stream] = {}
        self.bytes = 0
        self.contiguous = True
        self.gaps: list[tuple[int, int]] = []
        self.marked: dict[int, str] = {}

    def read(self, marks: Iterable[int] = ()) -> bool:
        """Read it from its start. `marked` holds the SHA-256 of the first so many bytes, for each mark that exists.

        False: an attempt that was not assigned has none.
        """
        left = sorted(set(marks), reverse=True)
        request = log_pb2.ReadLogsRequest(run=self._run, lease_epoch=self._epoch)
        try:
            for item in self._doors.logs.ReadLogs(request, timeout=300):
                if item.HasField("batch"):
                    self._batch(item.batch, left)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        self._mark(b"", left)
        return True

    def _batch(self, batch: log_pb2.LogBatch, left: list[int]) -> None:
        self.contiguous = self.contiguous and batch.offset == self.bytes
        for record in batch.records:
            self._take(record, left)
        self.contiguous = self.contiguous and batch.next_offset == self.bytes

    def _take(self, record: log_pb2.LogRecord, left: list[int]) -> None:
        if record.kind == log_pb2.LOG_KIND_EVENT:
            return
        if record.gap_bytes:
            self.gaps.append((self.bytes, self.bytes + record.gap_bytes))
            self._blocks.gap(record.gap_bytes)
            self.bytes += record.gap_bytes
            return
        self._blocks.data(record.data)
        self._mark(record.data, left)
        if record.kind in STREAMS:
            key = (record.step, STREAMS[record.kind])
            if key not in self._streams:
                plan = self._plans[record.step] if record.step < len(self._plans) else None
                self._streams[key] = Stream(plan, key[1])
            self._streams[key].take(record.data)

    def _mark(self, data: bytes, left: list[int]) -> None:
        """Add the bytes to the raw digest, and stop at each mark on the way."""
        while left and left[-1] <= self.bytes + len(data):
            mark = left.pop()
            room = mark - self.bytes
            if room >= 0:
                self._raw.update(data[:room])
                data, self.bytes = data[room:], mark
                self.marked[mark] = self._raw.hexdigest()
        self._raw.update(data)
        self.bytes += len(data)

    def sha256(self) -> str:
        return self._raw.hexdigest()

    def lines(self) -> Iterator[dict[str, Any]]:
        """What a history keeps of it."""
        key: Mapping[str, Any] = {"run": self._run, "epoch": self._epoch}
        for (step, name), stream in sorted(self._streams.items()):
            kept = {"bytes": stream.bytes, "same": stream.same, "sha256": stream.sha256()}
            yield {"what": "log", **key, "step": step, "stream": name, **kept}
        digest = self._blocks.hexdigest()
        whole = {"bytes": self.bytes, "digest": digest, "gaps": self.gaps, "contiguous": self.contiguous}
        yield {"what": "log_whole", **key, **whole}
