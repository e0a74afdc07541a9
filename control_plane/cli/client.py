"""The connection to one control plane: a channel, its stubs, deadlines, the token, and retries."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from control_plane.cli import contract
from control_plane.cli.clock import Clock
from control_plane.cli.rpc_errors import status_name, translate
from control_plane.cli.target import Target

if TYPE_CHECKING:
    import grpc

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

DEADLINE_S = 30.0
RETRY_DELAYS_S = (0.1, 0.3, 0.9)
CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", 16 << 20),
]


def open_channel(target: Target) -> grpc.Channel:
    """A lazy channel: TLS with the system's authorities, else plaintext."""
    import grpc

    if target.tls:
        credentials = grpc.ssl_channel_credentials(root_certificates=system_roots(os.environ))
        return grpc.secure_channel(target.address, credentials, options=CHANNEL_OPTIONS)
    # A proxy for the web has no business between this program and a loopback port.
    return grpc.insecure_channel(target.address, options=[*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)])


def system_roots(environ: Mapping[str, str]) -> bytes | None:
    """The authorities that this system trusts, as PEM; None leaves the choice to gRPC, which has a list of its own."""
    import ssl

    chosen = environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    try:
        return Path(chosen).read_bytes() if chosen else None
    except OSError:
        return None


def new_request_id() -> str:
    """Makes a create repeatable: the same id gives the same thing."""
    return str(uuid.uuid4())


class Client:
    """Calls one control plane as one principal. Errors leave it as CliError."""

    def __init__(self, channel: grpc.Channel, target: Target, clock: Clock, *, deadline_s: float = DEADLINE_S) -> None:
        self.channel = channel
        self.target = target
        self.clock = clock
        self._deadline_s = deadline_s
        self.metadata = (("authorization", f"Bearer {target.token}"),) if target.token else ()

    @cached_property
    def runs(self) -> contract.run_pb2_grpc.RunServiceStub:
        return contract.run_pb2_grpc.RunServiceStub(self.channel)

    @cached_property
    def logs(self) -> contract.log_pb2_grpc.LogServiceStub:
        return contract.log_pb2_grpc.LogServiceStub(self.channel)

    @cached_property
    def tasks(self) -> contract.task_pb2_grpc.TaskServiceStub:
        return contract.task_pb2_grpc.TaskServiceStub(self.channel)

    @cached_property
    def templates(self) -> contract.template_pb2_grpc.TemplateServiceStub:
        return contract.template_pb2_grpc.TemplateServiceStub(self.channel)

    @cached_property
    def schedules(self) -> contract.schedule_pb2_grpc.ScheduleServiceStub:
        return contract.schedule_pb2_grpc.ScheduleServiceStub(self.channel)

    @cached_property
    def projects(self) -> contract.project_pb2_grpc.ProjectServiceStub:
        return contract.project_pb2_grpc.ProjectServiceStub(self.channel)

    @cached_property
    def access(self) -> contract.access_pb2_grpc.AccessServiceStub:
        return contract.access_pb2_grpc.AccessServiceStub(self.channel)

    @cached_property
    def runners(self) -> contract.runner_pb2_grpc.RunnerServiceStub:
        return contract.runner_pb2_grpc.RunnerServiceStub(self.channel)

    @cached_property
    def secrets(self) -> contract.secret_pb2_grpc.SecretServiceStub:
        return contract.secret_pb2_grpc.SecretServiceStub(self.channel)

    @cached_property
    def notifications(self) -> contract.notification_pb2_grpc.NotificationServiceStub:
        return contract.notification_pb2_grpc.NotificationServiceStub(self.channel)

    @cached_property
    def reports(self) -> contract.report_pb2_grpc.ReportServiceStub:
        return contract.report_pb2_grpc.ReportServiceStub(self.channel)

    @cached_property
    def system(self) -> contract.system_pb2_grpc.SystemServiceStub:
        return contract.system_pb2_grpc.SystemServiceStub(self.channel)

    @cached_property
    def audit(self) -> contract.audit_pb2_grpc.AuditServiceStub:
        return contract.audit_pb2_grpc.AuditServiceStub(self.channel)

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        *,
        repeatable: bool,
        deadline_s: float | None = None,
    ) -> R:
        """One unary call.

        A repeatable one (a read, a create with request_id, a cancel) is tried again when the answer is UNAVAILABLE.
        """
        import grpc

        end = self.clock.monotonic_s() + (deadline_s or self._deadline_s)
        delays = iter(RETRY_DELAYS_S if repeatable else ())
        while True:
            try:
                return method(request, metadata=self.metadata, timeout=max(0.001, end - self.clock.monotonic_s()))
            except grpc.RpcError as error:
                delay = next(delays, None)
                if delay is None or status_name(error) != "UNAVAILABLE" or self.clock.monotonic_s() + delay > end:
                    raise translate(error, self.target.url) from error
                self.clock.sleep(delay)

    def pages(
        self,
        method: grpc.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        items: Callable[[R], Sequence[T]],
        *,
        limit: int | None = None,
    ) -> Iterator[T]:
        """The items of a list, page by page, at most `limit` of them."""
        left = limit
        while left is None or left > 0:
            request.page_size = min(left or 1000, 1000)  # type: ignore[attr-defined]
            response = self.call(method, request, repeatable=True)
            page = items(response)
            yield from page[:left]
            left = None if left is None else left - len(page)
            request.page_token = response.next_page_token  # type: ignore[attr-defined]
            if not request.page_token:  # type: ignore[attr-defined]
                return

    def parts(self, method: grpc.UnaryStreamMultiCallable[Q, R], request: Q, *, deadline_s: float) -> Iterator[R]:
        """The parts of one answer that comes as a stream."""
        import grpc

        try:
            yield from method(request, metadata=self.metadata, timeout=deadline_s)
        except grpc.RpcError as error:
            raise translate(error, self.target.url) from error

    def close(self) -> None:
        self.channel.close()
