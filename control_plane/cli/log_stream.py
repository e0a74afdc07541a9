"""Follow a run's log over dropped connections without losing or repeating a byte.

The position is (lease epoch, next offset); each new stream asks from there. What a stream repeats is cut off, what it
skips is an error, and attempts come in their order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from control_plane.cli import contract
from control_plane.cli.client import Client
from control_plane.cli.errors import CliError
from control_plane.cli.exits import ExitCode
from control_plane.cli.rpc_errors import detail_text, status_name, translate

if TYPE_CHECKING:
    import datetime

    import grpc

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0
# Tries before the first answer, and of a reader that does not follow; a follower that was answered once never gives up.
TRIES = 4
POLL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which log to read. At most one of from_offset, tail_lines and since is given.

    `every_attempt` begins with the first attempt instead of the newest.
    """

    run: str
    project: str = ""
    lease_epoch: int = 0
    from_offset: int | None = None
    tail_lines: int | None = None
    since: datetime.datetime | None = None
    follow: bool = False
    kinds: tuple[int, ...] = ()
    step: int | None = None
    every_attempt: bool = False

    @property
    def filtered(self) -> bool:
        return bool(self.kinds) or self.step is not None


@dataclass(frozen=True, slots=True)
class Begin:
    """An attempt's log begins here."""

    lease_epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One record, or the rest of one that an earlier stream had cut.

    `offset` is that of its first byte; None where a filter left out records of the same batch.
    """

    lease_epoch: int
    offset: int | None
    record: contract.log_pb2.LogRecord


Item = Begin | Piece
Notice = Callable[[str], None]
# Waits so many seconds, or until the stream is closed.
Pause = Callable[[float], object]


def size_of(record: contract.log_pb2.LogRecord) -> int:
    """How much of the offset space a record takes; typed events take none."""
    if record.kind == contract.log_pb2.LOG_KIND_EVENT:
        return 0
    return record.gap_bytes or len(record.data)


class LogStream:
    """Iterate once over the items of a log; `end` is the newest LogEnd, `next_offset` where to resume."""

    def __init__(self, client: Client, query: LogQuery, notice: Notice, pause: Pause | None = None) -> None:
        self._client = client
        self._query = query
        self._notice = notice
        self._stop = threading.Event()
        self._pause: Pause = pause or self._stop.wait
        self._call: grpc.Call | None = None
        self.epoch = query.lease_epoch
        self.next_offset: int | None = None
        self.end: contract.log_pb2.LogEnd | None = None
        self._announced = 0
        self._behind_the_first = False
        self._answered = False
        self._failures = 0
        self._told = False

    def close(self) -> None:
        """End the iteration from another thread."""
        self._stop.set()
        if self._call is not None:
            self._call.cancel()

    def __iter__(self) -> Iterator[Item]:
        if self._query.run.startswith("@"):
            # A reader who comes back wants the run that @last meant at first.
            found = self._get_run()
            self._query = replace(self._query, run=found.id, project=found.project_id)
        if self._query.every_attempt and (first := self._next_attempt(after=0)):
            self._go_to(first)
        while not self._stop.is_set():
            whole = yield from self._one_stream()
            if self._stop.is_set() or (whole and self._is_over()):
                return

    def _one_stream(self) -> Generator[Item, None, bool]:
        """Read one stream to its end; True when it ended as it should."""
        import grpc

        self.end = None
        try:
            self._call = call = self._client.logs.ReadLogs(self._request(), metadata=self._client.metadata)
            for response in call:
                if self._stop.is_set():
                    break
                self._answered, self._failures, self._told = True, 0, False
                yield from self._take(response)
                if self._behind_the_first:
                    call.cancel()
                    self._go_to_the_first()
                    return False
        except grpc.RpcError as error:
            if self._stop.is_set():
                return False
            self._dropped(error)
            return False
        if self.end is None and not self._stop.is_set():
            self._dropped(None)
            return False
        return True

    def _request(self) -> contract.log_pb2.ReadLogsRequest:
        query = self._query
        request = contract.log_pb2.ReadLogsRequest(
            run=query.run,
            project=query.project,
            lease_epoch=self.epoch,
            follow=query.follow,
            kinds=[contract.log_pb2.LogKind.ValueType(kind) for kind in query.kinds],
            step=query.step,
        )
        if self.next_offset is not None:
            request.from_offset = self.next_offset
        elif query.tail_lines is not None:
            request.tail_lines = query.tail_lines
        elif query.since is not None:
            request.since.FromDatetime(query.since)
        elif query.from_offset is not None:
            request.from_offset = query.from_offset
        return request

    def _take(self, response: contract.log_pb2.ReadLogsResponse) -> Iterator[Item]:
        match response.WhichOneof("item"):
            case "begin":
                yield from self._begin(response.begin.lease_epoch, response.begin.attempt_number)
            case "batch":
                batch = response.batch
                if batch.lease_epoch != self._announced:
                    yield from self._begin(batch.lease_epoch, 0)
                if batch.lease_epoch == self._announced:
                    yield from self._batch(batch)
            case "end":
                if response.end.lease_epoch >= self.epoch:
                    self.end = response.end
            case _:
                return

    def _begin(self, epoch: int, number: int) -> Iterator[Item]:
        """Move to an attempt that was not announced yet."""
        if self._query.lease_epoch and epoch != self._query.lease_epoch:
            return
        if epoch < self.epoch or epoch == self._announced:
            return
        if self._query.every_attempt and not self.epoch and number > 1:
            self._behind_the_first = True
            return
        if self._announced:
            self.next_offset = 0
        self.epoch = self._announced = epoch
        yield Begin(epoch, number)

    def _go_to_the_first(self) -> None:
        """The stream began behind the first attempt although all are wanted."""
        self._behind_the_first = False
        self._query = replace(self._query, every_attempt=False)
        if first := self._next_attempt(after=0):
            self._go_to(first)

    def _batch(self, batch: contract.log_pb2.LogBatch) -> Iterator[Item]:
        """What of the records lies behind the position. The position moves with the whole batch."""
        known = self.next_offset if self.next_offset is not None else batch.offset
        if batch.next_offset < known:
            return
        sizes = [size_of(record) for record in batch.records]
        contiguous = batch.offset + sum(sizes) == batch.next_offset
        if (batch.offset > known and not self._query.filtered) or (batch.offset < known and not contiguous):
            raise self._broken(f"after byte {known} came {batch.offset} to {batch.next_offset}")
        self.next_offset = batch.next_offset
        offset = batch.offset
        for record, size in zip(batch.records, sizes, strict=True):
            if size and (offset + size > known or not contiguous):
                skip = max(0, known - offset) if contiguous else 0
                at = offset + skip if contiguous else None
                yield Piece(self.epoch, at, cut(record, skip) if skip else record)
            offset += size

    def _broken(self, what: str) -> CliError:
        return CliError(
            "the control plane's answer has a hole in the log",
            exit_code=ExitCode.LOG_INCOMPLETE,
            cause=what,
        )

    def _dropped(self, error: grpc.RpcError | None) -> None:
        """Wait before the next try; raises CliError when trying again is no use."""
        if error is not None and not is_passing(error):
            raise translate(error, self._client.target.url) from error
        self._failures += 1
        endless = self._query.follow and self._answered
        if not endless and self._failures >= TRIES:
            if error is not None:
                raise translate(error, self._client.target.url) from error
            raise self._broken("the stream ended before the log did")
        self._back_off()

    def _back_off(self) -> None:
        """Say once that the connection is away, and wait."""
        if not self._told and self._answered:
            self._told = True
            self._notice("banksman: the connection was lost; trying again, no output is lost")
        self._pause(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(self._failures - 1, 10)))

    def _is_over(self) -> bool:
        """Whether a stream that ended well was the last one; otherwise be ready for the next."""
        if not self._query.follow or self._query.lease_epoch:
            return True
        while not self._stop.is_set():
            run = self._get_run()
            following = self._next_attempt_of(run, after=max(self.epoch, 0))
            if following:
                self._go_to(following)
                return False
            if not run.is_active:
                return True
            self._pause(POLL_S)
        return True

    def _go_to(self, epoch: int) -> None:
        """Ask for this attempt from its first byte, unless it is the one that is being read."""
        if epoch != self.epoch or self.next_offset is None:
            self.epoch, self.next_offset = epoch, 0

    def _get_run(self) -> contract.run_pb2.Run:
        """The run; a follower who was answered once outwaits the control plane's absence here too."""
        request = contract.run_pb2.GetRunRequest(run=self._query.run, project=self._query.project)
        while True:
            try:
                return self._client.call(self._client.runs.GetRun, request, repeatable=True)
            except CliError as error:
                patient = self._query.follow and self._answered and not self._stop.is_set()
                if not patient or error.exit_code != ExitCode.UNAVAILABLE:
                    raise
                self._failures += 1
                self._back_off()

    def _next_attempt(self, *, after: int) -> int:
        return self._next_attempt_of(self._get_run(), after=after)

    def _next_attempt_of(self, run: contract.run_pb2.Run, *, after: int) -> int:
        """The lowest epoch behind `after` that has a log; 0 when there is none."""
        pb = contract.run_pb2
        without = (pb.ATTEMPT_STATE_OFFERED, pb.ATTEMPT_STATE_REJECTED)
        epochs = [
            attempt.lease_epoch
            for attempt in run.attempts
            if attempt.lease_epoch > after and (attempt.log_bytes or attempt.state not in without)
        ]
        return min(epochs, default=0)


def cut(record: contract.log_pb2.LogRecord, skip: int) -> contract.log_pb2.LogRecord:
    """The record without its first `skip` bytes."""
    rest = contract.log_pb2.LogRecord()
    rest.CopyFrom(record)
    if record.gap_bytes:
        rest.gap_bytes = record.gap_bytes - skip
    else:
        rest.data = record.data[skip:]
    return rest


def is_passing(error: grpc.RpcError) -> bool:
    """Whether another try may go well: the connection or the server went away."""
    name, text = status_name(error), detail_text(error)
    if name in ("UNAVAILABLE", "CANCELLED"):
        return True
    return name in ("INTERNAL", "UNKNOWN") and ("RST_STREAM" in text or "Stream removed" in text)
