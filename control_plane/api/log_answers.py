"""Answers of ReadLogs as bytes: a batch's data is copied once, and once for all who follow one log together."""

from __future__ import annotations

from collections import OrderedDict

from banksman.v1 import log_pb2

from control_plane.api.convert import LOG_RECORD
from control_plane.api.mapping import Plan
from control_plane.domain.log import LogRecord
from control_plane.domain.logs import LogBatch, LogEnd, LogItem, LogStart

START = Plan(LogStart, log_pb2.LogStart)
BATCH = Plan(LogBatch, log_pb2.LogBatch, nested={LogRecord: LOG_RECORD})
END = Plan(LogEnd, log_pb2.LogEnd)
# Batches of at most 256 KiB or so.
REMEMBERED = 8

_LENGTH_DELIMITED = 2


def message_of(item: LogItem) -> log_pb2.ReadLogsResponse:
    """The answer as the contract's message: what the bytes mean."""
    match item:
        case LogBatch():
            return log_pb2.ReadLogsResponse(batch=BATCH.encode(item))
        case LogStart():
            return log_pb2.ReadLogsResponse(begin=START.encode(item))
        case LogEnd():
            return log_pb2.ReadLogsResponse(end=END.encode(item))


class Answers:
    """Serializes items. A batch of the same records, as followers share them, is serialized once while it is new."""

    def __init__(self) -> None:
        self._batches: OrderedDict[int, tuple[LogBatch, bytes]] = OrderedDict()

    def serialized(self, item: LogItem) -> bytes:
        """A ReadLogsResponse as the contract writes it."""
        if not isinstance(item, LogBatch) or not item.records:
            return message_of(item).SerializeToString()
        # The entry holds its records, so that no other tuple can have this identity meanwhile.
        known = self._batches.get(id(item.records))
        if known is not None and known[0] == item:
            return known[1]
        made = _batch(item)
        self._batches[id(item.records)] = (item, made)
        if len(self._batches) > REMEMBERED:
            self._batches.popitem(last=False)
        return made


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _tag(field: int) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED)


_BATCH = _tag(log_pb2.ReadLogsResponse.BATCH_FIELD_NUMBER)
_RECORD = _tag(log_pb2.LogBatch.RECORDS_FIELD_NUMBER)
_DATA = _tag(log_pb2.LogRecord.DATA_FIELD_NUMBER)


def _batch(batch: LogBatch) -> bytes:
    frame = log_pb2.LogBatch(lease_epoch=batch.lease_epoch, offset=batch.offset, next_offset=batch.next_offset)
    parts = [frame.SerializeToString()]
    for record in batch.records:
        bare = LogRecord(kind=record.kind, at=record.at, step=record.step, gap_bytes=record.gap_bytes)
        head = LOG_RECORD.encode(bare).SerializeToString()
        if record.data:
            head += _DATA + _varint(len(record.data))
        parts += (_RECORD + _varint(len(head) + len(record.data)) + head, record.data)
    return b"".join([_BATCH + _varint(sum(map(len, parts))), *parts])
