"""What the runner says as bytes for the stream; a log chunk's data is copied once, straight into its message.

Through message objects each byte of a log would be copied some six times, into memory that is new each time.
"""

from __future__ import annotations

from banksman.v1 import log_pb2 as log
from banksman.v1 import session_pb2 as wire

from runner_agent.domain.log import LogChunk
from runner_agent.domain.messages import RunnerMessage
from runner_agent.session.convert import LOG_KINDS, to_wire
from runner_agent.session.convert_values import timestamp

_LENGTH_DELIMITED = 2


def serialized(message: RunnerMessage) -> bytes:
    """A SessionRequest as the contract writes it."""
    return _chunk(message) if isinstance(message, LogChunk) else to_wire(message).SerializeToString()


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _tag(field: int) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED)


_CHUNK = _tag(wire.SessionRequest.LOG_CHUNK_FIELD_NUMBER)
_RECORD = _tag(wire.LogChunk.RECORDS_FIELD_NUMBER)
_DATA = _tag(log.LogRecord.DATA_FIELD_NUMBER)


def _chunk(chunk: LogChunk) -> bytes:
    key = wire.AttemptKey(run_id=chunk.key.run_id, lease_epoch=chunk.key.lease_epoch)
    parts: list[bytes | memoryview] = [wire.LogChunk(key=key, offset=chunk.offset).SerializeToString()]
    for record in chunk.records:
        head = log.LogRecord(
            kind=LOG_KINDS[record.kind], step=record.step, at=timestamp(record.at_ns), gap_bytes=record.gap_bytes
        ).SerializeToString()
        if record.data:
            head += _DATA + _varint(len(record.data))
        parts += (_RECORD + _varint(len(head) + len(record.data)) + head, record.data)
    return b"".join([_CHUNK + _varint(sum(map(len, parts))), *parts])
