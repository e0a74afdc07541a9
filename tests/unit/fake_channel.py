"""A channel whose calls are answered from a script; built on grpc_testing, which is honest about the sync stubs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc_testing
from banksman.v1 import (
    access_pb2,
    log_pb2,
    notification_pb2,
    project_pb2,
    report_pb2,
    run_pb2,
    runner_pb2,
    schedule_pb2,
    secret_pb2,
    system_pb2,
    task_pb2,
)
from google.protobuf.message import Message
from google.rpc import status_pb2

MODULES = (
    access_pb2,
    log_pb2,
    notification_pb2,
    project_pb2,
    report_pb2,
    run_pb2,
    runner_pb2,
    schedule_pb2,
    secret_pb2,
    system_pb2,
    task_pb2,
)
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@dataclass(frozen=True)
class Refusal:
    """A status other than OK; `details` are the typed messages of a google.rpc.Status."""

    code: grpc.StatusCode
    message: str = ""
    details: Sequence[Message] = ()

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        if not self.details:
            return ()
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        return (("grpc-status-details-bin", status.SerializeToString()),)


# A stream says things or is refused: grpc_testing drops what was sent before a bad end and not read yet.
Answer = Message | Refusal | Sequence[Message]


@dataclass(frozen=True)
class Call:
    """What the client sent."""

    method: str
    request: Any
    metadata: dict[str, str]
    timeout_s: float | None


@dataclass
class FakeControlPlane:
    """Answers calls in the order of the script of (method name, answer); a stream's answer is a sequence."""

    script: Sequence[tuple[str, Answer]]
    calls: list[Call] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._testing = grpc_testing.channel(
            [service for module in MODULES for service in module.DESCRIPTOR.services_by_name.values()],
            grpc_testing.strict_real_time(),
        )
        self._made: queue.SimpleQueue[tuple[str, float | None] | None] = queue.SimpleQueue()
        self._left = list(self.script)
        self._thread = threading.Thread(target=self._answer_all, name="fake-control-plane", daemon=True)
        self._thread.start()
        self.channel = ScriptedChannel(self._testing, self._made)

    def finish(self) -> None:
        """Stop answering, and check that the script was followed."""
        self._made.put(None)
        self._thread.join(10)
        assert not self.surprises
        assert not self._left, f"never called: {[name for name, _ in self._left]}"

    def _answer_all(self) -> None:
        while (made := self._made.get()) is not None:
            path, timeout_s = made
            descriptor = METHODS[path]
            expected, answer = self._left.pop(0) if self._left else ("nothing", Refusal(grpc.StatusCode.INTERNAL))
            if expected != descriptor.name:
                self.surprises.append(f"{descriptor.name} was called, {expected} was expected")
                answer = Refusal(grpc.StatusCode.INTERNAL, "not in the script")
            if descriptor.server_streaming:
                self._stream(descriptor, answer, timeout_s)
            else:
                self._unary(descriptor, answer, timeout_s)

    def _note(self, descriptor: Any, metadata: Any, request: Any, timeout_s: float | None) -> None:
        self.calls.append(Call(descriptor.name, request, dict(metadata), timeout_s))

    def _unary(self, descriptor: Any, answer: Any, timeout_s: float | None) -> None:
        metadata, request, rpc = self._testing.take_unary_unary(descriptor)
        self._note(descriptor, metadata, request, timeout_s)
        rpc.send_initial_metadata(())
        if isinstance(answer, Refusal):
            rpc.terminate(None, answer.trailers(), answer.code, answer.message)
        else:
            rpc.terminate(answer, (), grpc.StatusCode.OK, "")

    def _stream(self, descriptor: Any, answer: Any, timeout_s: float | None) -> None:
        metadata, request, rpc = self._testing.take_unary_stream(descriptor)
        self._note(descriptor, metadata, request, timeout_s)
        rpc.send_initial_metadata(())
        if isinstance(answer, Refusal):
            rpc.terminate(answer.trailers(), answer.code, answer.message)
            return
        for item in answer:
            rpc.send_response(item)
        rpc.terminate((), grpc.StatusCode.OK, "")


class ScriptedChannel:
    """Tells the script of each call before it is made, so that an unexpected one cannot hang."""

    def __init__(self, testing: Any, made: queue.SimpleQueue[tuple[str, float | None] | None]) -> None:
        self._testing = testing
        self._made = made
        self.closed = False

    def unary_unary(self, path: str, *args: Any, **settings: Any) -> Callable[..., Any]:
        return self._telling(path, self._testing.unary_unary(path))

    def unary_stream(self, path: str, *args: Any, **settings: Any) -> Callable[..., Any]:
        return self._telling(path, self._testing.unary_stream(path))

    def stream_stream(self, path: str, *args: Any, **settings: Any) -> Callable[..., Any]:
        return self._telling(path, self._testing.stream_stream(path))

    def _telling(self, path: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def tell(request: Any, *, timeout: float | None = None, metadata: Any = None) -> Any:
            sent = type(request)()
            sent.CopyFrom(request)  # the client may change its request for the next page
            self._made.put((path, timeout))
            return call(sent, timeout=timeout, metadata=metadata)

        return tell

    def close(self) -> None:
        self.closed = True
