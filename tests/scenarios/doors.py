"""A typed gRPC client for tests: every service's stub, with a token on each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from banksman.v1 import (
    access_pb2_grpc,
    log_pb2_grpc,
    notification_pb2_grpc,
    project_pb2_grpc,
    report_pb2_grpc,
    run_pb2_grpc,
    runner_pb2_grpc,
    schedule_pb2_grpc,
    secret_pb2_grpc,
    session_pb2_grpc,
    system_pb2_grpc,
    task_pb2_grpc,
    template_pb2_grpc,
)

OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A channel of its own per client: two clients in one process do not share a connection.
    ("grpc.use_local_subchannel_pool", 1),
)


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Details2(_Details, grpc.ClientCallDetails):
    """What grpc hands from interceptor to interceptor."""


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the token, and waits for a server that is just starting."""

    def __init__(self, token: str) -> None:
        self._token = token

    def _with_token(self, details: Any) -> _Details2:
        metadata = [*(details.metadata or ()), ("authorization", f"Bearer {self._token}")]
        timeout = 60.0 if details.timeout is None else details.timeout
        return _Details2(details.method, timeout, metadata, details.credentials, True, None)

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_token(client_call_details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_token(client_call_details), request)


class Doors:
    """All services of one server, called as one principal. Calls last 60 s at most unless they say otherwise.

    `watching` interceptors see each call before the token is added.
    """

    def __init__(self, target: str, token: str | None, *watching: grpc.UnaryUnaryClientInterceptor) -> None:
        self._plain = grpc.insecure_channel(target, options=OPTIONS)
        channel = self._plain if token is None else grpc.intercept_channel(self._plain, _Bearer(token))
        if watching:
            channel = grpc.intercept_channel(channel, *watching)
        self.access = access_pb2_grpc.AccessServiceStub(channel)
        self.logs = log_pb2_grpc.LogServiceStub(channel)
        self.notifications = notification_pb2_grpc.NotificationServiceStub(channel)
        self.projects = project_pb2_grpc.ProjectServiceStub(channel)
        self.reports = report_pb2_grpc.ReportServiceStub(channel)
        self.runs = run_pb2_grpc.RunServiceStub(channel)
        self.runners = runner_pb2_grpc.RunnerServiceStub(channel)
        self.schedules = schedule_pb2_grpc.ScheduleServiceStub(channel)
        self.secrets = secret_pb2_grpc.SecretServiceStub(channel)
        self.sessions = session_pb2_grpc.RunnerSessionServiceStub(channel)
        self.system = system_pb2_grpc.SystemServiceStub(channel)
        self.tasks = task_pb2_grpc.TaskServiceStub(channel)
        self.templates = template_pb2_grpc.TemplateServiceStub(channel)

    def close(self) -> None:
        self._plain.close()
