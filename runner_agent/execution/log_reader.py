"""Reads a spool from any offset, while the shim still writes it, in bounded batches."""

from __future__ import annotations

import errno
import itertools
import os
from dataclasses import dataclass, replace
from pathlib import Path

from runner_agent.shim import spool_format as fmt
from runner_agent.shim.spool_format import PTY, STDERR, STDOUT, SYSTEM, Record

__all__ = ["PTY", "STDERR", "STDOUT", "SYSTEM", "LogGap", "LogReader", "LogRecord", "retire"]

LogRecord = Record
MAX_BATCH_RECORDS = 1024
# More than the largest chunk, with the headers of its records.
_READ_BYTES = 288 << 10
_LEAST_BYTES = 64 << 10
# The kernel's words that it cannot read without waiting: for the disk, or on such a file system at all.
_MUST_WAIT = (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_AT_ONCE: int = getattr(os, "RWF_NOWAIT", 8)
_NOTHING = memoryview(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogGap:
    """The bytes [start, end) are not kept."""

    start: int
    end: int


@dataclass(slots=True)
class _Open:
    """The file that is read now: where in it the buffer ends, and how far the buffer was used."""

    header: fmt.SpoolFile
    descriptor: int
    position: int = fmt.FILE_HEADER_BYTES
    buffer: memoryview = _NOTHING
    at: int = 0


class LogReader:
    """A position in one attempt's log. Reads are bounded and synchronous; new bytes are announced by Spooled events."""

    def __init__(self, run_directory: Path, offset: int = 0) -> None:
        self._directory = str(run_directory)
        self._file: _Open | None = None
        self._rest: Record | None = None
        self.offset = offset

    def seek(self, offset: int) -> None:
        """Read on from `offset`, which may lie in the middle of a record."""
        self.close()
        self.offset = offset

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None:
            os.close(self._file.descriptor)
        self._file = None
        self._rest = None

    def read(
        self, *, max_bytes: int = fmt.MAX_PAYLOAD_BYTES, final_offset: int | None = None, wait: bool = True
    ) -> tuple[LogRecord | LogGap, ...]:
        """The next records and gaps in offset order, at most `max_bytes` of payload; empty if there is nothing yet.

        Give `final_offset` once the attempt has ended: then the tail of an overfull log is read too, and missing bytes
        at its end are told as a gap; the log is complete when `offset` reaches it. Without `wait` only what the open
        file has in memory is read, and BlockingIOError raised if that is nothing. Raises OSError, BadMessage.
        """
        batch: list[LogRecord | LogGap] = []
        left = max_bytes
        while left > 0 and len(batch) < MAX_BATCH_RECORDS:
            try:
                record = self._next(left, final_offset is not None, wait)
            except BlockingIOError:
                if batch:
                    break
                raise
            if record is None:
                break
            if record.offset > self.offset:
                batch.append(LogGap(start=self.offset, end=record.offset))
            taken = record if len(record.data) <= left else replace(record, data=record.data[:left])
            self._rest = None if taken is record else _cut(record, record.offset + left)
            batch.append(taken)
            left -= len(taken.data)
            self.offset = taken.offset + len(taken.data)
        if not batch and final_offset is not None and self.offset < final_offset:
            batch.append(LogGap(start=self.offset, end=final_offset))
            self.offset = final_offset
        return tuple(batch)

    def _next(self, left: int, ended: bool, wait: bool) -> Record | None:
        """The next record with bytes at or after `offset`, without those before it."""
        if self._rest is not None:
            return self._rest
        while True:
            if self._file is None and (not wait or not self._open(ended)):
                break
            record = self._parse(left, wait)
            if record is None:
                if not wait:
                    break
                later = self._later()
                record = self._parse(left)  # what was written before the next file was begun
                if record is None:
                    if later is None or not self._open_file(later, ended):
                        return None
                    continue
            if record.offset + len(record.data) > self.offset:
                return _cut(record, self.offset)
        if not wait:
            raise BlockingIOError(errno.EAGAIN, "a file must be looked for, or opened")
        return None

    def _parse(self, left: int, wait: bool = True) -> Record | None:
        """The next record of the open file; None at its end, for now or for good, or where it is damaged."""
        file = self._file
        if file is None:
            return None
        while (parsed := fmt.parse_record(file.buffer, file.at)) is None:
            unparsed = len(file.buffer) - file.at
            too_much = unparsed > fmt.RECORD_HEADER_BYTES + fmt.MAX_PAYLOAD_BYTES
            # New memory each time: the records that are given out lie in it.
            size = min(left + left // 8 + _LEAST_BYTES, _READ_BYTES)
            buffer = memoryview(bytearray(0 if too_much else unparsed + size))
            more = 0 if too_much else _pread(file.descriptor, buffer[unparsed:], file.position, wait)
            if not more:
                # Forget the beginning of a record: the writer may yet take it back, when its disk is full.
                file.position -= unparsed
                file.buffer, file.at = _NOTHING, 0
                return None
            buffer[:unparsed] = file.buffer[file.at :]
            file.buffer, file.at = buffer[: unparsed + more].toreadonly(), 0
            file.position += more
        record, file.at = parsed
        return record

    def _open(self, ended: bool) -> bool:
        """Open the file in which `offset` lies, or the first after it."""
        chosen = None
        for header in self._headers():
            if chosen is None or header.first_offset <= self.offset:
                chosen = header
        return chosen is not None and self._open_file(chosen, ended)

    def _open_file(self, header: fmt.SpoolFile, ended: bool) -> bool:
        if header.ring and not ended and not self._ring_is_final(header.number):
            return False
        try:
            path = os.path.join(self._directory, fmt.file_name(header.number))
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False  # deleted meanwhile: the next read looks again
        if self._file is not None:
            os.close(self._file.descriptor)
        self._file = _Open(header, descriptor)
        return True

    def _ring_is_final(self, number: int) -> bool:
        return any(header.number > number and not header.ring for header in self._headers())

    def _later(self) -> fmt.SpoolFile | None:
        """The file after the open one; once it is there, the open one grows no more."""
        if self._file is not None:
            for number in fmt.file_numbers(self._directory):
                if number > self._file.header.number:
                    header = read_header(self._directory, number)
                    if header is not None:
                        return header
        return None

    def _headers(self) -> list[fmt.SpoolFile]:
        found = []
        for number in fmt.file_numbers(self._directory):
            header = read_header(self._directory, number)
            if header is not None:
                found.append(header)
        return found


def read_header(directory: str, number: int) -> fmt.SpoolFile | None:
    """What the header of a spool file says; None if the file is gone, only just begun, or lost to damage.

    Raises OSError for what may yet be read, BadMessage for a newer version.
    """
    try:
        with open(os.path.join(directory, fmt.file_name(number)), "rb") as file:
            return fmt.parse_file_header(number, file.read(fmt.FILE_HEADER_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        if fmt.is_lost_for_good(error):
            return None
        raise


def _pread(descriptor: int, buffer: memoryview, position: int, wait: bool) -> int:
    """How much of what stands there was read; 0 at the end, and where the disk has lost it. Raises OSError."""
    try:
        return os.preadv(descriptor, (buffer,), position, 0 if wait else _AT_ONCE)
    except NotImplementedError:  # a C library without preadv2
        raise BlockingIOError(errno.EAGAIN, "not to be read at once") from None
    except OSError as error:
        if fmt.is_lost_for_good(error):
            return 0
        if not wait and error.errno in _MUST_WAIT:
            raise BlockingIOError(errno.EAGAIN, "not in memory") from None
        raise


def retire(run_directory: Path, acked_offset: int) -> int:
    """Delete the spool files that lie wholly below `acked_offset`; how many. The newest always stays.

    The shim keeps the digest in memory, so it does not need them. If the shim dies later, the digest of what was
    deleted is lost, and the exit record says None.
    """
    directory = str(run_directory)
    headers = [header for number in fmt.file_numbers(directory) if (header := read_header(directory, number))]
    deleted = 0
    for header, following in itertools.pairwise(headers):
        if header.ring or following.ring or following.first_offset > acked_offset:
            break
        os.unlink(os.path.join(directory, fmt.file_name(header.number)))
        deleted += 1
    return deleted


def _cut(record: Record, offset: int) -> Record:
    """The part of a record from `offset` on."""
    if offset <= record.offset:
        return record
    return replace(record, offset=offset, data=record.data[offset - record.offset :])
