"""A small real gRPC server that serves one run's log, and drops the connection where it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from banksman.v1 import log_pb2, log_pb2_grpc, run_pb2, run_pb2_grpc
from click.testing import CliRunner, Result

from control_plane.cli.client import Client, open_channel
from control_plane.cli.invocation import Invocation
from control_plane.cli.main import cli
from control_plane.cli.target import Target
from tests.unit.control_plane.cli.console import TOKEN, FakeClock

STDOUT, STDERR = log_pb2.LOG_KIND_STDOUT, log_pb2.LOG_KIND_STDERR
Record = tuple[int, bytes]


@dataclass
class AttemptLog:
    """One attempt: its epoch, its number, and what it printed."""

    lease_epoch: int
    number: int
    records: Sequence[Record]

    def size(self) -> int:
        return sum(len(data) for _, data in self.records)

    def behind(self, offset: int) -> Iterator[tuple[int, Record]]:
        """(offset, record) for everything behind the offset, cut where it lies in the middle."""
        at = 0
        for kind, data in self.records:
            if at + len(data) > offset:
                skip = max(0, offset - at)
                yield at + skip, (kind, data[skip:])
            at += len(data)


@dataclass
class Logbook(log_pb2_grpc.LogServiceServicer, run_pb2_grpc.RunServiceServicer):
    """Serves the attempts; each number in `drops` ends one stream after so many bytes, 0 before it says anything.

    With one_at_a_time a stream ends with its attempt, as after a restart in between. `overlap` bytes before the asked
    offset are sent again.
    """

    attempts: list[AttemptLog]
    state: int = run_pb2.RUN_STATE_SUCCEEDED
    drops: list[int] = field(default_factory=list)
    batch_bytes: int = 64
    one_at_a_time: bool = False
    overlap: int = 0
    complete: bool = True
    starts_with: int = 0
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    queued_for: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> run_pb2.Run:
        run = run_pb2.Run(id="run-1", project_id="p", state=self.state)  # type: ignore[arg-type]
        run.is_active = self.state < run_pb2.RUN_STATE_SUCCEEDED
        for log in self.attempts:
            run.attempts.add(lease_epoch=log.lease_epoch, number=log.number, log_bytes=log.size())
        return run

    def CreateRun(self, request: Any, context: grpc.ServicerContext) -> run_pb2.Run:
        self.requests.append(request)
        return run_pb2.Run(id="run-1", project_id="p", state=run_pb2.RUN_STATE_QUEUED, is_active=True)

    def GetRun(self, request: Any, context: grpc.ServicerContext) -> run_pb2.Run:
        return self.run()

    def WaitRun(self, request: Any, context: grpc.ServicerContext) -> run_pb2.Run:
        return self.run()

    def ReadLogs(self, request: Any, context: grpc.ServicerContext) -> Iterator[log_pb2.ReadLogsResponse]:
        with self.lock:
            self.requests.append(request)
            self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
            drop = self.drops.pop(0) if self.drops else None
        if drop == 0:
            context.abort(self.status, "gone")
        sent = 0
        for log in self.wanted(request):
            begin = log_pb2.LogStart(lease_epoch=log.lease_epoch, attempt_number=log.number)
            yield log_pb2.ReadLogsResponse(begin=begin)
            offset = request.from_offset if log.lease_epoch == request.lease_epoch else 0
            for batch in self.batches(log, max(0, offset - self.overlap), request):
                yield log_pb2.ReadLogsResponse(batch=batch)
                sent += batch.next_offset - batch.offset
                if drop is not None and sent >= drop:
                    context.abort(self.status, "gone")
            last = log is self.attempts[-1]
            end = log_pb2.LogEnd(lease_epoch=log.lease_epoch, bytes=log.size(), complete=self.complete)
            end.state = self.state if last else run_pb2.RUN_STATE_QUEUED  # type: ignore[assignment]
            yield log_pb2.ReadLogsResponse(end=end)

    def wanted(self, request: Any) -> Sequence[AttemptLog]:
        if request.lease_epoch:
            later = [log for log in self.attempts if log.lease_epoch >= request.lease_epoch]
        else:
            later = self.attempts[self.starts_with :] if request.follow else self.attempts[-1:]
        return later[:1] if self.one_at_a_time or not request.follow else later

    def batches(self, log: AttemptLog, offset: int, request: Any) -> Iterator[log_pb2.LogBatch]:
        for at, (kind, data) in log.behind(offset):
            for start in range(0, len(data), self.batch_bytes):
                piece = data[start : start + self.batch_bytes]
                if request.kinds and kind not in request.kinds:
                    continue
                batch = log_pb2.LogBatch(
                    lease_epoch=log.lease_epoch, offset=at + start, next_offset=at + start + len(piece)
                )
                batch.records.add(kind=kind, data=piece)  # type: ignore[arg-type]
                yield batch


@contextmanager
def serving(book: Logbook) -> Iterator[Client]:
    """A client of a server that serves the book on a free loopback port."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
    log_pb2_grpc.add_LogServiceServicer_to_server(book, server)
    run_pb2_grpc.add_RunServiceServicer_to_server(book, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    target = Target(
        url=f"http://127.0.0.1:{port}", token=TOKEN, address=f"127.0.0.1:{port}", tls=False, project="p", source="test"
    )
    client = Client(open_channel(target), target, FakeClock())
    try:
        yield client
    finally:
        client.close()
        server.stop(0).wait()


def call(book: Logbook, *args: str, given: bytes = b"") -> Result:
    """The program against a real server that serves the book."""
    with serving(book) as client:
        environ = {"BANKSMAN_URL": client.target.url, "BANKSMAN_TOKEN": TOKEN, "HOME": "/nonexistent"}
        inv = Invocation(environ=environ, clock=client.clock)
        return CliRunner().invoke(cli, list(args), obj=inv, input=given)
